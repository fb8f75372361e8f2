"""Captioners and generators: the classes that load BLIP and Stable Diffusion, on tiny checkpoints."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

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
from avalanche_clts.experiments.runs.image_store import RememberingGenerator
from avalanche_clts.pair.distributed import _SpreadGenerator
from avalanche_clts.pair.generators import needing
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
    def made(decoder: str, needed: tuple[int, int] | None = None) -> np.ndarray:
        generator = DiffusionGenerator(embedded_pair_folder / "generator", steps=1, guidance_scale=1.0, decoder=decoder)
        with nullcontext() if needed is None else needing(generator, needed):
            (image,) = generator.generate(["a zero"], [0])
        (outside,) = generator.generate(["a zero"], [0])
        assert outside.size == ((8, 8) if decoder == "linear" else (32, 32))
        return pixels(image)

    small, large = made("linear"), made("autoencoder")
    assert (made("auto", (4, 4)) == small).all()
    for needed in ((5, 4), (32, 32), None):
        assert (made("auto", needed) == large).all()
    assert (made("autoencoder", (4, 4)) == large).all()


def test_replay_says_what_size_it_needs(embedded_pair: Pair, tmp_path: Path) -> None:
    class Sized:
        def __init__(self) -> None:
            self.sizes: list[tuple[int, int] | None] = []
            self.needed: tuple[int, int] | None = None

        @contextmanager
        def needing(self, size: tuple[int, int]) -> Iterator[None]:
            self.needed = size
            yield
            self.needed = None

        def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
            self.sizes.append(self.needed)
            return [Image.new("RGB", self.needed or (32, 32), "white") for _ in prompts]

    sized = Sized()
    for generator in (sized, _SpreadGenerator(sized), RememberingGenerator(sized, "sized", tmp_path / "images.sqlite")):
        buffer = CaptionBuffer(pair=Pair(embedded_pair.captioner, generator), captions_per_class=1)
        buffer.post_adapt(None, split_digits(5).train_stream[0])
        assert {image.size for image in buffer.images} == {(8, 8)}
    assert sized.sizes == [(8, 8)] * 3
    assert sized.needed is None


def test_same_call_same_pixels(tiny_pair: Pair) -> None:
    first, second = (tiny_pair.generator.generate(PROMPTS, range(5)) for _ in range(2))
    assert all((pixels(a) == pixels(b)).all() for a, b in zip(first, second, strict=True))


def test_as_many_seeds_as_prompts_are_asked_for(tiny_pair: Pair) -> None:
    with pytest.raises(ValueError, match="2 prompts, 1 seeds"):
        tiny_pair.generator.generate(["a", "b"], [0])


def test_weights_are_loaded_when_first_used(tiny_pair: Pair) -> None:
    assert tiny_pair.generator._pipeline is None
    assert tiny_pair.captioner._loaded is None


def test_generator_leaves_the_device_if_asked(tiny_pair_folder: Path) -> None:
    generator = DiffusionGenerator(tiny_pair_folder / "generator", steps=1, offload="meta")
    generator.generate(["zero"], [0])
    assert {p.device.type for p in generator._pipeline.unet.parameters()} == {"meta"}


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
    assert "hf download" in message
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
