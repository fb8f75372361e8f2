"""Every pipeline that is known, as a tiny one from disk: the image depends on its prompt and its seed alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    FluxPipeline,
    FluxTransformer2DModel,
    KandinskyPipeline,
    StableDiffusion3Pipeline,
)
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from avalanche_clts import DiffusionGenerator, LabelCaptioner, Pair
from avalanche_clts.pair.catalogue import GENERATORS
from avalanche_clts.pair.loading import pair_identity
from avalanche_clts.pair.pipeline_kinds import PIPELINES, native_size
from avalanche_clts.pair.precision import fast_multiplication
from tests.tiny_pipelines import TINY, save_flux, save_tiny

# What the pipelines without a size of their own in their configuration would make is large.
SIZE = {"FluxPipeline": {"height": 16, "width": 16}, "PixArtAlphaPipeline": {"height": 16, "width": 16}}
PROMPTS = ["a thin seven", "a two", "a thin seven"]
LONG = "a two " * 400


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_tiny(kind, tmp_path_factory.mktemp(kind)) for kind in TINY}


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def difference(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(pixels(one) - pixels(other)).max())


def test_the_pipelines_that_are_known_are_those_that_are_tested(folders: dict[str, Path]) -> None:
    assert set(PIPELINES) == {*TINY, "StableDiffusionPipeline", "StableDiffusionXLPipeline"}
    for kind, folder in folders.items():
        assert json.loads((folder / "model_index.json").read_text())["_class_name"] == kind
    assert len(list((folders["StableDiffusion3Pipeline"] / "transformer").glob("*-of-*.safetensors"))) > 1


@pytest.mark.parametrize("kind", TINY)
def test_an_image_depends_on_its_prompt_and_its_seed_alone(kind: str, folders: dict[str, Path]) -> None:
    def made(prompts: list[str], seeds: list[int], **options: object) -> list[Image.Image]:
        return DiffusionGenerator(folders[kind], steps=2, **SIZE.get(kind, {}), **options).generate(prompts, seeds)

    images = made(PROMPTS, [1, 2, 3])
    side = {"FluxPipeline": 16, "PixArtAlphaPipeline": 16, "SanaPipeline": 32, "SanaSprintPipeline": 32}.get(kind, 8)
    assert [(image.mode, image.size) for image in images] == [("RGB", (side, side))] * 3
    assert all(pixels(image).std() > 10 for image in images)
    for image, again in zip(images, made(PROMPTS, [1, 2, 3], batch_size=2), strict=True):
        assert difference(image, again) <= 2
    assert difference(images[1], made(["a two"], [2])[0]) <= 2
    assert difference(images[0], images[2]) > 20, "another seed"
    assert difference(images[1], made(["four"], [2])[0]) > 2, "another prompt"


@pytest.mark.parametrize("kind", TINY)
def test_an_image_is_that_which_diffusers_makes(kind: str, folders: dict[str, Path]) -> None:
    generator = DiffusionGenerator(folders[kind], steps=2, guidance_scale=3.0, **SIZE.get(kind, {}))
    images = generator.generate(PROMPTS[:2], [1, 2])
    options = {**SIZE.get(kind, {})}
    if kind.startswith(("PixArt", "Sana")):
        options["use_resolution_binning"] = False
    if kind.startswith("PixArt"):
        options["clean_caption"] = False
    if kind == "FluxPipeline":
        options["max_sequence_length"] = 256
    if kind == "SanaSprintPipeline":
        options |= {"height": 32, "width": 32}
    if kind == "SanaPipeline":
        options |= {"height": 32, "width": 32}
    with fast_multiplication("cpu"):
        expected = generator._pipeline(
            prompt=PROMPTS[:2],
            num_inference_steps=2,
            guidance_scale=3.0,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in (1, 2)],
            **options,
        ).images
    assert [difference(*pair) for pair in zip(images, expected, strict=True)] == [0, 0]


@pytest.mark.parametrize("kind", TINY)
def test_guidance_is_heeded_where_there_is_any(kind: str, folders: dict[str, Path]) -> None:
    low, high = (
        DiffusionGenerator(folders[kind], steps=2, guidance_scale=scale, **SIZE.get(kind, {}))
        .generate(["a two"], [2])
        .pop()
        for scale in (1.0, 9.0)
    )
    assert (difference(low, high) > 0) == (kind != "FluxPipeline")  # schnell, which has none


def test_flux_with_guidance_reads_twice_as_much(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_flux(tmp_path, guidance_embeds=True)
    low, high = (
        DiffusionGenerator(tmp_path, steps=1, guidance_scale=scale, **SIZE["FluxPipeline"]) for scale in (1.0, 9.0)
    )
    assert difference(*(generator.generate(["a two"], [2])[0] for generator in (low, high))) > 0
    assert low.cut_prompts(["two " * 300, "two " * 600]) == 1


@pytest.mark.parametrize("kind", TINY)
def test_what_no_text_encoder_has_room_for_is_counted_and_cut(kind: str, folders: dict[str, Path]) -> None:
    generator = DiffusionGenerator(folders[kind], steps=2, **SIZE.get(kind, {}))
    assert generator.cut_prompts(["a two", LONG, "a two", LONG]) == 2
    images = generator.generate([LONG, LONG + "seven seven"], [1, 1])
    assert difference(*images) == 0
    longer_than_clip = "two " * 30  # which the other text encoder reads
    assert generator.cut_prompts([longer_than_clip]) == (kind == "LatentConsistencyModelPipeline")


@pytest.mark.parametrize("kind", TINY)
def test_a_size_is_that_of_the_image_or_refused(kind: str, folders: dict[str, Path]) -> None:
    multiple = {"SanaPipeline": 32, "SanaSprintPipeline": 32}.get(kind, 8)
    generator = DiffusionGenerator(folders[kind], steps=2, height=2 * multiple, width=multiple)
    assert generator.generate(["a two"], [1])[0].size == (multiple, 2 * multiple)
    with pytest.raises(ValueError, match=f"height is 18; .* makes images of multiples of {multiple} pixels"):
        DiffusionGenerator(folders[kind], height=18)


@pytest.mark.parametrize("kind", sorted(TINY.keys() - SIZE.keys()))
def test_any_image_can_be_autoencoded(kind: str, folders: dict[str, Path]) -> None:
    generator = DiffusionGenerator(folders[kind], steps=1)
    images = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    encoded = generator.autoencode(images)
    assert encoded.shape == images.shape
    assert 0 <= encoded.min() < encoded.max() <= 1
    assert (encoded[0] - encoded[1]).abs().max() > 1e-3


def test_few_steps_are_as_many_as_the_pipeline_can(folders: dict[str, Path]) -> None:
    made = [
        DiffusionGenerator(folders["SanaSprintPipeline"], steps=n).generate(["a two"], [1]).pop() for n in (1, 2, 4)
    ]
    assert difference(made[0], made[1]) > 2 < difference(made[1], made[2])
    pixart, size = folders["PixArtAlphaPipeline"], SIZE["PixArtAlphaPipeline"]
    with pytest.raises(ValueError, match=r"steps is 1, and .* in one step with the LCMScheduler alone"):
        DiffusionGenerator(pixart, steps=1)
    assert len(DiffusionGenerator(pixart, steps=1, scheduler="LCMScheduler", **size).generate(["a two"], [1])) == 1


def test_the_size_is_the_one_that_a_pipeline_was_taught(folders: dict[str, Path]) -> None:
    sides = {kind: native_size(DiffusionGenerator(folder)._load())[0] for kind, folder in folders.items()}
    assert sides == {
        "LatentConsistencyModelPipeline": 8,
        "StableDiffusion3Pipeline": 8,
        "FluxPipeline": 256,
        "PixArtAlphaPipeline": 256,
        "PixArtSigmaPipeline": 8,
        "SanaPipeline": 32,
        "SanaSprintPipeline": 32,
    }


# Decoders, schedulers, and what is added


def test_a_linear_decoder_is_for_latents_that_are_pictures(folders: dict[str, Path]) -> None:
    for kind, folder in folders.items():
        if PIPELINES[kind].linear:
            (image,) = DiffusionGenerator(folder, steps=1, decoder="linear").generate(["a two"], [1])
            assert image.size == (4, 4), "that of the latents"
            continue
        with pytest.raises(ValueError, match=f"decoder is 'linear', and .* is a {kind}; it must be one of StableDiff"):
            DiffusionGenerator(folder, decoder="linear")
    flux = FluxPipeline.from_pretrained(folders["FluxPipeline"])
    with pytest.raises(ValueError, match="decoder is 'linear', and pipeline is a FluxPipeline"):
        DiffusionGenerator(pipeline=flux, decoder="linear")
    auto, plain = (
        DiffusionGenerator(folders["StableDiffusion3Pipeline"], steps=1, decoder=decoder).generate_sized(
            ["a two"], [1], (2, 2)
        )
        for decoder in ("auto", "autoencoder")
    )
    assert difference(auto[0], plain[0]) == 0


@pytest.mark.parametrize(
    ("kind", "scheduler", "fits"),
    [
        ("SanaPipeline", "EulerDiscreteScheduler", False),
        ("SanaPipeline", "UniPCMultistepScheduler", True),
        ("SanaSprintPipeline", "EulerDiscreteScheduler", False),
        ("FluxPipeline", "FlowMatchHeunDiscreteScheduler", False),
        ("FluxPipeline", "DPMSolverMultistepScheduler", False),
        ("FluxPipeline", "FlowMatchLCMScheduler", True),
        ("StableDiffusion3Pipeline", "FlowMatchHeunDiscreteScheduler", True),
        ("PixArtSigmaPipeline", "DPMSolverMultistepScheduler", True),
        ("LatentConsistencyModelPipeline", "DDIMScheduler", False),
    ],
)
def test_a_scheduler_fits_its_pipeline_or_is_refused(
    kind: str, scheduler: str, fits: bool, folders: dict[str, Path]
) -> None:
    options = {"scheduler": scheduler, "steps": 2, **SIZE.get(kind, {})}
    if fits:
        assert len(DiffusionGenerator(folders[kind], **options).generate(["a two"], [1])) == 1
    else:
        with pytest.raises(ValueError, match=f"scheduler is '{scheduler}', which cannot stand in for"):
            DiffusionGenerator(folders[kind], **options)


def test_a_transformer_takes_low_rank_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    from peft import LoraConfig, inject_adapter_in_model
    from peft.utils import get_peft_model_state_dict

    folder = folders["FluxPipeline"]
    transformer = FluxTransformer2DModel.from_pretrained(folder / "transformer")
    transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    FluxPipeline.save_lora_weights(tmp_path, transformer_lora_layers=get_peft_model_state_dict(transformer))
    options = {"steps": 2, **SIZE["FluxPipeline"]}
    (plain,), (other,) = (
        DiffusionGenerator(folder, lora=lora, **options).generate(["a two"], [1]) for lora in (None, tmp_path)
    )
    assert difference(plain, other) > 1
    # Those of the text encoder alone are added as well, where a pipeline fuses its transformer's by itself.
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False), encoder)
    FluxPipeline.save_lora_weights(tmp_path / "text", text_encoder_lora_layers=get_peft_model_state_dict(encoder))
    (of_text,) = DiffusionGenerator(folder, lora=tmp_path / "text", **options).generate(["a two"], [1])
    assert difference(plain, of_text) > 0
    shutil.rmtree(tmp_path / "text")
    (tmp_path / "pytorch_lora_weights.safetensors").rename(tmp_path / "a.safetensors")
    weights = load_file(tmp_path / "a.safetensors")
    save_file({name: 2 * value for name, value in weights.items()}, tmp_path / "b.safetensors")
    of_files = [
        Pair(LabelCaptioner(), DiffusionGenerator(folder, lora=tmp_path, lora_weight_name=name, **options))
        for name in ("a.safetensors", "b.safetensors")
    ]
    assert pair_identity(of_files[0]) != pair_identity(of_files[1]), "of one folder"
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lora is .*, and a PixArtSigmaPipeline takes none"):
        DiffusionGenerator(folders["PixArtSigmaPipeline"], lora=tmp_path)
    with pytest.raises(ValueError, match="of whose weights none fits the pipeline"):
        DiffusionGenerator(folders["LatentConsistencyModelPipeline"], lora=tmp_path)


def test_an_autoencoder_is_for_latents_of_the_same_size(folders: dict[str, Path], tmp_path: Path) -> None:
    AutoencoderTiny(
        latent_channels=16,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).save_pretrained(tmp_path)
    for kind in ("FluxPipeline", "StableDiffusion3Pipeline"):
        generator = DiffusionGenerator(folders[kind], steps=1, autoencoder=tmp_path, **SIZE.get(kind, {}))
        assert len(generator.generate(["a two"], [1])) == 1
        assert isinstance(generator._pipeline.vae, AutoencoderTiny)
    with pytest.raises(ValueError, match=r"16 channels and 1/2 .* have 4 channels and 1/2"):
        DiffusionGenerator(folders["SanaPipeline"], autoencoder=tmp_path)


# Given pipelines, and those that are refused


def test_stable_diffusion_3_without_its_largest_text_encoder(folders: dict[str, Path]) -> None:
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        folders["StableDiffusion3Pipeline"], text_encoder_3=None, tokenizer_3=None
    )
    generator = DiffusionGenerator(pipeline=pipeline, steps=1)
    images = generator.generate(PROMPTS, [1, 2, 3])
    assert difference(images[1], generator.generate(["a two"], [2])[0]) <= 2
    assert generator.cut_prompts(["a two", "two " * 30]) == 1


def test_other_pipelines_are_refused_with_the_list(folders: dict[str, Path], tmp_path: Path) -> None:
    for kind in ("StableDiffusionInpaintPipeline", "QwenImagePipeline", "NoPipeline", None):
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
        with pytest.raises(ValueError, match=f"is .*, a {kind}; it must be one of StableDiffusionPipeline, .*Sana"):
            DiffusionGenerator(tmp_path)
    other = KandinskyPipeline.__new__(KandinskyPipeline)
    with pytest.raises(ValueError, match="pipeline is a KandinskyPipeline; it must be one of StableDiffusionPipeline"):
        DiffusionGenerator(pipeline=other)


def test_a_tokenizer_that_needs_sentencepiece_says_so(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("avalanche_clts.pair.fitting.find_spec", lambda name: None)
    folder = save_tiny("PixArtSigmaPipeline", tmp_path)
    assert DiffusionGenerator(folder).steps is None
    (folder / "tokenizer" / "tokenizer.json").rename(folder / "tokenizer" / "spiece.model")
    with pytest.raises(ImportError, match=r'needs sentencepiece; run: pip install "avalanche-clts\[sentencepiece\]"'):
        DiffusionGenerator(folder)


RECIPES = {
    "lcm-dreamshaper": "LatentConsistencyModelPipeline",
    "sd35-medium": "StableDiffusion3Pipeline",
    "sd35-large-turbo": "StableDiffusion3Pipeline",
    "flux-schnell": "FluxPipeline",
    "pixart-alpha": "PixArtAlphaPipeline",
    "pixart-sigma": "PixArtSigmaPipeline",
    "sana-sprint": "SanaSprintPipeline",
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_one_that_its_pipeline_takes(name: str, folders: dict[str, Path]) -> None:
    recipe = {option: value for option, value in GENERATORS[name].arguments.items() if option != "name_or_path"}
    side = 32 if name == "sana-sprint" else 16
    generator = DiffusionGenerator(folders[RECIPES[name]], **recipe | {"height": side, "width": side})
    assert generator.generate(["a two"], [1])[0].size == (side, side)
