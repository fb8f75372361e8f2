"""Captioners and generators: the classes that load BLIP and Stable Diffusion, on tiny checkpoints."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from avalanche_clts import (
    BlipCaptioner,
    CaptionBuffer,
    Captioner,
    DiffusionGenerator,
    Generator,
    LabelCaptioner,
    Pair,
    load_pair,
    split_digits,
)
from avalanche_clts.pair.abilities import Autoencodes, CutsPrompts, HasFeatures, SizedGenerator, generate_at
from avalanche_clts.pair.distributed import _SpreadCaptioner, _SpreadGenerator
from avalanche_clts.pair.image_cache import CachedGenerator
from avalanche_clts.pair.linear_decoder import LinearDecoder
from avalanche_clts.pair.loading import pair_identity, pair_nbytes
from avalanche_clts.pair.precision import fast_multiplication
from avalanche_clts.pair.weights import MissingWeightsError

PROMPTS = ["a handwritten seven", "a thin two", "a thick photo of nine", "zero", "a photo"]


def pictures(count: int) -> list[Image.Image]:
    generator = torch.Generator().manual_seed(0)
    return [Image.fromarray(torch.randint(256, (20, 14, 3), generator=generator).byte().numpy()) for _ in range(count)]


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_parts_keep_the_protocols(tiny_pair: Pair) -> None:
    assert isinstance(tiny_pair.captioner, Captioner)
    assert isinstance(tiny_pair.generator, Generator)
    assert isinstance(LabelCaptioner(), Captioner)


def test_captions_do_not_depend_on_the_batch(tiny_pair_folder: Path) -> None:
    images = pictures(5)
    together = BlipCaptioner(tiny_pair_folder / "captioner", max_new_tokens=4).caption(images)
    in_twos = BlipCaptioner(tiny_pair_folder / "captioner", max_new_tokens=4, batch_size=2).caption(images)
    assert len(together) == 5
    assert together == in_twos


def test_prefix_with_the_class_name_starts_the_caption(tiny_pair_folder: Path) -> None:
    captioner = BlipCaptioner(
        tiny_pair_folder / "captioner", prefix="a photo of handwritten {class_name}", max_new_tokens=3
    )
    names = ["seven", "two", "nine"]
    for caption, name in zip(captioner.caption(pictures(3), names), names, strict=True):
        assert caption.startswith(f"a photo of handwritten {name}")
    assert all(not c.startswith("a photo of handwritten seven") for c in captioner.caption(pictures(3)))


def test_grey_images_can_be_captioned(tiny_pair: Pair) -> None:
    assert len(tiny_pair.captioner.caption([image.convert("L") for image in pictures(2)])) == 2


def test_image_depends_on_prompt_and_seed_and_not_on_its_batch(tiny_pair_folder: Path) -> None:
    def generate(batch_size: int, prompts: list[str], seeds: list[int]) -> list[np.ndarray]:
        generator = DiffusionGenerator(
            tiny_pair_folder / "generator", steps=3, guidance_scale=2.0, batch_size=batch_size
        )
        return [pixels(image) for image in generator.generate(prompts, seeds)]

    seeds = [5, 2**32 - 1, 7, 7, 0]
    together = generate(5, PROMPTS, seeds)
    for size in (1, 2):
        for a, b in zip(together, generate(size, PROMPTS, seeds), strict=True):
            assert np.abs(a - b).max() <= 1
    backwards = generate(5, PROMPTS[::-1], seeds[::-1])[::-1]
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(together, backwards, strict=True))
    assert np.abs(generate(1, PROMPTS[:1], [6])[0] - together[0]).max() > 1


@pytest.mark.parametrize("guidance", [1.0, 3.0, None])
def test_images_are_those_of_the_pipeline_itself(tiny_pair_folder: Path, guidance: float | None) -> None:
    generator = DiffusionGenerator(tiny_pair_folder / "generator", steps=2, guidance_scale=guidance)
    images = generator.generate(["a two", "zero", "a two"], [1, 2, 3])
    options = {} if guidance is None else {"guidance_scale": guidance}
    for prompt, seed, image in zip(["a two", "zero", "a two"], [1, 2, 3], images, strict=True):
        noise = torch.Generator().manual_seed(seed)
        with fast_multiplication("cpu"):
            (plain,) = generator._pipeline(prompt, generator=noise, num_inference_steps=2, **options).images
        assert np.abs(pixels(plain) - pixels(image)).max() <= 1


def test_equal_prompts_are_encoded_once(tiny_pair_folder: Path) -> None:
    generator = DiffusionGenerator(tiny_pair_folder / "generator", steps=1, guidance_scale=1.0)
    encoded: list[int] = []
    generator._load().text_encoder.register_forward_hook(lambda module, given, output: encoded.append(len(given[0])))
    generator.generate(["zero", "a two", "zero", "zero"], range(4))
    assert encoded == [2]


def test_linear_decoder_makes_the_same_images_small(embedded_pair_folder: Path) -> None:
    options = json.loads((embedded_pair_folder / "pair.json").read_text())["generator"]
    prompts, seeds = ["a large red star on white", "a small blue circle on black"] * 4, list(range(8))
    whole = DiffusionGenerator(embedded_pair_folder / "generator", **options).generate(prompts, seeds)
    linear = DiffusionGenerator(embedded_pair_folder / "generator", **options, decoder="linear")
    small = linear.generate(prompts, seeds)
    assert [image.size for image in small] == [(8, 8)] * 8
    expected = [pixels(image.resize((8, 8), Image.Resampling.BOX)).ravel() for image in whole]
    assert np.corrcoef(np.concatenate(expected), np.concatenate([pixels(i).ravel() for i in small]))[0, 1] > 0.9
    alone = linear.generate(prompts[:1], seeds[:1])[0]
    again = DiffusionGenerator(embedded_pair_folder / "generator", **options, decoder="linear").generate(
        prompts[:1], [0]
    )
    assert (pixels(alone) == pixels(again[0])).all()
    with pytest.raises(ValueError, match="decoder is 'none'; it must be one of"):
        DiffusionGenerator(embedded_pair_folder / "generator", decoder="none")


def test_no_more_is_decoded_than_a_stream_needs(embedded_pair_folder: Path) -> None:
    def made(decoder: str, size: tuple[int, int] | None = None) -> np.ndarray:
        generator = DiffusionGenerator(embedded_pair_folder / "generator", steps=1, guidance_scale=1.0, decoder=decoder)
        decoded: list[int] = []
        generator._load().vae.decoder.register_forward_hook(lambda *_: decoded.append(1))
        (image,) = (
            generator.generate(["a zero"], [0]) if size is None else generator.generate_sized(["a zero"], [0], size)
        )
        assert image.size == (size or ((8, 8) if decoder == "linear" else (32, 32)))
        assert bool(decoded) == (not (decoder == "linear" or (decoder == "auto" and size == (4, 4))))
        return pixels(image)

    assert (made("auto", (4, 4)) == made("linear", (4, 4))).all()
    for size in ((5, 4), (32, 32), None):
        assert (made("auto", size) == made("autoencoder", size)).all()
    assert (made("autoencoder", (4, 4)) != made("linear", (4, 4))).any()


def test_images_are_brought_to_a_size_batch_by_batch(tiny_pair_folder: Path) -> None:
    generator = DiffusionGenerator(tiny_pair_folder / "generator", steps=1, guidance_scale=1.0, batch_size=2)
    whole = generator.generate(PROMPTS, range(5))
    expected = [image.resize((5, 3), Image.Resampling.LANCZOS) for image in whole]
    for sized in (
        generator.generate_sized(PROMPTS, range(5), (5, 3)),
        generate_at(generator, PROMPTS, range(5), (5, 3)),
    ):
        assert [image.size for image in sized] == [(5, 3)] * 5
        assert all((pixels(a) == pixels(b)).all() for a, b in zip(sized, expected, strict=True))


def test_no_batch_waits_in_full_size_for_the_next(tiny_pair_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = DiffusionGenerator(tiny_pair_folder / "generator", steps=1, guidance_scale=1.0, batch_size=2)
    events: list[str] = []
    generator._load().vae.decoder.register_forward_hook(lambda *_: events.append("made"))
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda *a, **k: (events.append("resized"), resize(*a, **k))[1])
    generator.generate_sized(PROMPTS, range(5), (5, 3))
    assert events == ["made", "resized", "resized"] * 2 + ["made", "resized"]


class Large:
    """A generator that offers nothing but `generate`."""

    def __init__(self) -> None:
        self.lots: list[int] = []

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        self.lots.append(len(prompts))
        return [Image.new("RGB", (64, 48), (int(p), seed, 0)) for p, seed in zip(prompts, seeds, strict=True)]


def test_large_images_never_lie_in_memory_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avalanche_clts.pair.abilities._AT_ONCE", 3)
    large = Large()
    images = generate_at(large, [str(i) for i in range(8)], range(8), (4, 5))
    assert [image.size for image in images] == [(4, 5)] * 8
    assert [image.getpixel((0, 0)) for image in images] == [(i, i, 0) for i in range(8)]
    assert large.lots == [3, 3, 2]
    assert [image.size for image in generate_at(large, ["1"], [1], None)] == [(64, 48)]


class Able(Large):
    """A generator that offers everything."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, int]] = []

    def generate_sized(self, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int]) -> list[Image.Image]:
        self.sizes.append(size)
        return [Image.new("RGB", size, "white") for _ in prompts]

    def cut_prompts(self, prompts: Sequence[str]) -> int:
        return len(prompts)

    def autoencode(self, images: torch.Tensor) -> torch.Tensor:
        return images


def test_replay_says_what_size_it_needs(embedded_pair: Pair, tmp_path: Path) -> None:
    able = Able()
    for generator in (able, _SpreadGenerator(able), CachedGenerator(able, tmp_path, identity="able")):
        buffer = CaptionBuffer(pair=Pair(embedded_pair.captioner, generator), captions_per_class=1)
        buffer.post_adapt(None, split_digits(5).train_stream[0])
        assert len(buffer.buffer) == 2
    assert able.sizes == [(8, 8)] * 3
    assert able.lots == []


def test_what_stands_for_a_part_offers_what_it_offers(tiny_pair: Pair, tmp_path: Path) -> None:
    for part in (Large(), Able(), tiny_pair.generator):
        for wrapped in (_SpreadGenerator(part), CachedGenerator(part, tmp_path, identity="one")):
            assert isinstance(wrapped, SizedGenerator), "whatever a generator makes can be brought to a size"
            for ability in (CutsPrompts, Autoencodes):
                assert isinstance(wrapped, ability) == isinstance(part, ability)
                # As Python 3.12 looks: at the object and its class, without asking __getattr__.
                (method,) = [name for name in vars(ability) if not name.startswith("_")]
                assert (inspect.getattr_static(wrapped, method, None) is not None) == isinstance(part, ability)
    assert isinstance(tiny_pair.generator, SizedGenerator)
    assert isinstance(tiny_pair.generator, CutsPrompts)
    assert isinstance(tiny_pair.generator, Autoencodes)
    assert isinstance(_SpreadCaptioner(tiny_pair.captioner), HasFeatures)
    assert not isinstance(_SpreadCaptioner(LabelCaptioner()), HasFeatures)
    assert _SpreadGenerator(Able()).cut_prompts(["a", "b"]) == 2


def test_same_call_same_pixels(tiny_pair: Pair) -> None:
    first, second = (tiny_pair.generator.generate(PROMPTS, range(5)) for _ in range(2))
    assert all((pixels(a) == pixels(b)).all() for a, b in zip(first, second, strict=True))


def test_as_many_seeds_as_prompts_are_asked_for(tiny_pair: Pair) -> None:
    with pytest.raises(ValueError, match="2 prompts, 1 seeds"):
        tiny_pair.generator.generate(["a", "b"], [0])


def test_weights_are_loaded_when_first_used(tiny_pair: Pair) -> None:
    assert tiny_pair.generator._pipeline is None
    assert tiny_pair.captioner._loaded is None


@pytest.mark.parametrize(
    "use",
    [
        lambda generator: generator.generate(["zero"], [0]),
        lambda generator: generator.autoencode(torch.rand(1, 3, 8, 8)),
    ],
    ids=["generate", "autoencode"],
)
def test_generator_leaves_the_device_if_asked(use: Callable, tiny_pair_folder: Path) -> None:
    generator = DiffusionGenerator(tiny_pair_folder / "generator", steps=1, offload="meta")
    use(generator)
    pipeline = generator._pipeline
    assert {p.device.type for part in (pipeline.unet, pipeline.vae) for p in part.parameters()} == {"meta"}


def test_captions_decoded_in_another_way_are_another_pairs(tiny_pair_folder: Path) -> None:
    def identity(**captioner: object) -> list[str]:
        return pair_identity(load_pair(tiny_pair_folder, captioner=captioner))

    others = [{"num_beams": 2}, {"top_p": 0.9}, {"top_p": 0.9, "seed": 1}, {"min_new_tokens": 2}]
    others.append({"repetition_penalty": 1.5})
    assert len({tuple(identity(**options)) for options in [{}, *others]}) == 6
    assert identity(num_beams=1, seed=0) == identity()
    assert "decoding" not in " ".join(identity())


def test_label_captioner_fills_the_template() -> None:
    assert LabelCaptioner("a handwritten {class_name}").caption(pictures(2), ["two", "six"]) == [
        "a handwritten two",
        "a handwritten six",
    ]
    with pytest.raises(ValueError, match="class_names"):
        LabelCaptioner().caption(pictures(1))
    with pytest.raises(ValueError, match=r"template.*\{class_name\}"):
        LabelCaptioner("a digit")


def test_unknown_pair_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'blop'.*embedded.*blip\+sd15.*blip-large.*sdxl-turbo"):
        load_pair("blop")


@pytest.mark.parametrize("name", ["blip+sd15", "blip+sd-turbo"])
def test_absent_weights_are_one_line_that_says_what_to_do(name: str) -> None:
    start = time.perf_counter()
    with pytest.raises(MissingWeightsError) as error:
        load_pair(name)
    assert time.perf_counter() - start < 12, "one request, no retries"
    message = str(error.value)
    assert "\n" not in message
    assert "Salesforce/blip-image-captioning-base" in message
    assert f"clts fetch {name}" in message
    assert 'load_pair("embedded") works offline' in message


def test_defaults_are_blip_and_stable_diffusion() -> None:
    for part, name in (
        (BlipCaptioner, "Salesforce/blip-image-captioning-base"),
        (DiffusionGenerator, "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    ):
        with pytest.raises(MissingWeightsError, match=name):
            part()


@pytest.mark.parametrize(
    "file",
    [
        "captioner/config.json",
        "captioner/model.safetensors",
        "generator/model_index.json",
        "generator/unet/diffusion_pytorch_model.safetensors",
        "generator/vae/config.json",
        "generator/text_encoder/model.safetensors",
        "generator/scheduler/scheduler_config.json",
    ],
)
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_incomplete_pair_folder_is_refused_at_once(
    tiny_pair_folder: Path, tmp_path: Path, file: str, damage: str
) -> None:
    folder = tmp_path / "pair"
    shutil.copytree(tiny_pair_folder, folder)
    if damage == "missing":
        (folder / file).unlink()
    else:
        (folder / file).write_bytes((folder / file).read_bytes()[:-9])
    with pytest.raises(MissingWeightsError) as error:
        load_pair(folder)
    assert str(folder / file.rsplit("/", 1)[0]) in str(error.value)
    assert "copy" in str(error.value)


def test_damaged_pair_json_is_refused(tiny_pair_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pair"
    shutil.copytree(tiny_pair_folder, folder)
    (folder / "pair.json").write_text('{"captioner": {')
    with pytest.raises(MissingWeightsError, match=r"pair\.json is damaged"):
        load_pair(folder)


def test_arguments_can_be_chosen_before_anything_loads(tiny_pair_folder: Path) -> None:
    pair = load_pair(
        tiny_pair_folder, captioner={"max_new_tokens": 2, "prefix": "a {class_name}"}, generator={"width": 16}
    )
    assert (pair.captioner.max_new_tokens, pair.captioner.prefix) == (2, "a {class_name}")
    assert (pair.generator.width, pair.generator.steps) == (16, 1), "what is not chosen is the pair's own"
    assert pair.generator._pipeline is None
    (image,) = pair.generator.generate(["zero"], [0])
    assert image.size == (16, 8)
    assert load_pair(tiny_pair_folder).generator.width is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"generator": {"step": 3}}, r"generator= has 'step'; arguments of DiffusionGenerator are: .*steps, "),
        ({"captioner": {"steps": 3}}, r"captioner= has 'steps'; arguments of AutoCaptioner are: .*max_new_tokens, "),
        ({"generator": {"steps": 0}}, "steps is 0; it must be"),
    ],
)
def test_arguments_that_a_part_does_not_take_are_refused_by_name(
    tiny_pair_folder: Path, arguments: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_pair(tiny_pair_folder, **arguments)
    with pytest.raises(TypeError, match=r"captioner is 3; it must be a dict of arguments of AutoCaptioner"):
        load_pair(tiny_pair_folder, captioner=3)


def test_arguments_in_a_pairs_own_file_are_checked_too(tiny_pair_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pair"
    shutil.copytree(tiny_pair_folder, folder)
    (folder / "pair.json").write_text('{"captioner": {"beams": 4}}')
    with pytest.raises(ValueError, match=r"pair\.json has 'beams'; arguments of AutoCaptioner are"):
        load_pair(folder)
    (folder / "pair.json").write_text('{"captioner": ["beams"]}')
    with pytest.raises(MissingWeightsError, match=r"pair\.json must hold an object with the objects captioner"):
        load_pair(folder)


def test_embedded_pair_has_the_layout_of_real_checkpoints_and_fits_in_25_megabytes(embedded_pair: Pair) -> None:
    folder = Path(embedded_pair.captioner.name_or_path).parent
    assert json.loads((folder / "captioner/config.json").read_text())["architectures"] == [
        "BlipForConditionalGeneration"
    ]
    index = json.loads((folder / "generator/model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert {"vae", "unet", "text_encoder", "tokenizer", "scheduler"} <= index.keys()
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 25_000_000


def test_importing_the_package_loads_no_model_code() -> None:
    code = "import avalanche_clts, sys; print('diffusers.pipelines.stable_diffusion' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_a_cache_of_images_is_known_as_its_generator(tiny_pair_folder: Path, tmp_path: Path) -> None:
    """Checkpoints name the pair: with a cache or without, it is the same, and another generator's is another."""
    pair = load_pair(tiny_pair_folder)
    cached = Pair(pair.captioner, CachedGenerator(pair.generator, tmp_path))
    assert pair_identity(cached) == pair_identity(pair)
    assert pair_nbytes(cached) == pair_nbytes(pair)
    steps = load_pair(tiny_pair_folder, generator={"steps": 3})
    assert pair_identity(Pair(pair.captioner, CachedGenerator(steps.generator, tmp_path))) == pair_identity(steps)
    told = [CachedGenerator(pair.generator, tmp_path, identity=text) for text in ("one", "another")]
    assert len({pair_identity(Pair(pair.captioner, generator))[1] for generator in told}) == 2


def test_weights_behind_a_link_to_a_folder_tell_a_pair_from_others(tiny_pair_folder: Path, tmp_path: Path) -> None:
    """As who shares the other parts of a pipeline lays it out."""
    folder = tmp_path / "pair"
    shutil.copytree(tiny_pair_folder, folder)
    unet = folder / "generator" / "unet"
    for step in ("2000", "4000"):
        shutil.copytree(unet, tmp_path / step)
    weights = tmp_path / "4000" / "diffusion_pytorch_model.safetensors"
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights, metadata={"format": "pt"})
    shutil.rmtree(unet)
    identities, images = [], []
    for step in ("2000", "4000"):
        unet.unlink(missing_ok=True)
        unet.symlink_to(tmp_path / step)
        pair = load_pair(folder)
        identities.append(pair_identity(pair))
        images += CachedGenerator(pair.generator, tmp_path / "images").generate(["a cat"], [0])
    assert identities[0] != identities[1]
    assert images[0].tobytes() != images[1].tobytes()


def test_a_linear_decoder_knows_latents_that_have_a_mean_and_a_deviation(embedded_pair_folder: Path) -> None:
    """As the autoencoder of Playground 2.5 has: the denoiser's are those that are brought to 0 and 1."""
    vae = DiffusionGenerator(embedded_pair_folder / "generator")._load().vae
    latents = torch.randn(4, vae.config.latent_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = LinearDecoder(vae).decode(latents)
    vae.register_to_config(latents_mean=[0.5] * latents.shape[1], latents_std=[2.0] * latents.shape[1])
    scale = vae.config.scaling_factor
    centred = LinearDecoder(vae).decode(scale * (latents / scale - 0.5) / 2)
    inner = (..., slice(2, -2), slice(2, -2))  # what is around the border has no mean
    assert (plain[inner] - centred[inner]).abs().mean() < 0.02
    assert plain[inner].std() > 0.1
