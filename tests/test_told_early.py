"""What is wrong with a pair is said when it is loaded, before the first head is trained, and not after."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from avalanche_clts import AutoCaptioner, DiffusionGenerator, load_pair
from avalanche_clts.pair.weights import MissingWeightsError
from tests.test_families import save_lora, save_sdxl

Case = Callable[[Path], dict[str, Any]]


@pytest.fixture
def pair_folder(tiny_pair_folder: Path, tmp_path: Path) -> Path:
    """A pair of the test's own, a LoRA and two autoencoders that fit it."""
    folder = tmp_path / "pair"
    shutil.copytree(tiny_pair_folder, folder)
    save_lora(tmp_path / "lora", folder / "generator")
    shutil.copytree(folder / "generator" / "vae", tmp_path / "vae")
    return folder


def generator(**options: Any) -> Case:
    return lambda folder: {"generator": options}


def beside(argument: str, name: str) -> Case:
    """An argument of the generator is a folder beside the pair's."""
    return lambda folder: {"generator": {argument: str(folder.parent / name)}}


# As the versions of transformers save them.
TOKENIZER = ("captioner/tokenizer.json", "captioner/vocab.txt")
IMAGE_PROCESSOR = ("captioner/processor_config.json", "captioner/preprocessor_config.json")


def without(*files: str) -> Case:
    def case(folder: Path) -> dict[str, Any]:
        there = [folder / file for file in files if (folder / file).exists()]
        assert there
        for file in there:
            file.unlink()
        return {}

    return case


def cut_off(file: str) -> Case:
    def case(folder: Path) -> dict[str, Any]:
        (folder / file).write_bytes((folder / file).read_bytes()[:-9])
        return {}

    return case


def changed(file: str, **entries: Any) -> Case:
    def case(folder: Path) -> dict[str, Any]:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | entries))
        return {}

    return case


def bin_cut_off(folder: Path) -> dict[str, Any]:
    weights = folder / "captioner" / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    return cut_off("captioner/pytorch_model.bin")(folder)


def shard_missing(folder: Path) -> dict[str, Any]:
    captioner = folder / "captioner"
    weights = load_file(captioner / "model.safetensors")
    (captioner / "model.safetensors").unlink()
    save_file(weights, captioner / "model-00001-of-00002.safetensors")
    index = {"weight_map": dict.fromkeys(weights, "model-00001-of-00002.safetensors")}
    (captioner / "model.safetensors.index.json").write_text(json.dumps(index))
    return {}


def lora_cut_off(folder: Path) -> dict[str, Any]:
    cut_off("lora/pytorch_lora_weights.safetensors")(folder.parent)
    return beside("lora", "lora")(folder)


def two_loras(folder: Path) -> dict[str, Any]:
    lora = folder.parent / "lora"
    shutil.copy(lora / "pytorch_lora_weights.safetensors", lora / "two.safetensors")
    (lora / "pytorch_lora_weights.safetensors").rename(lora / "one.safetensors")
    return beside("lora", "lora")(folder)


def lora_of_another_kind(folder: Path) -> dict[str, Any]:
    file = folder.parent / "lora" / "pytorch_lora_weights.safetensors"
    save_file({name.replace("unet.", "another.", 1): value for name, value in load_file(file).items()}, file)
    return beside("lora", "lora")(folder)


def lora_of_another_size(folder: Path) -> dict[str, Any]:
    save_sdxl(folder.parent / "sdxl")
    save_lora(folder.parent / "other", folder.parent / "sdxl")
    return beside("lora", "other")(folder)


def no_lora_weights(folder: Path) -> dict[str, Any]:
    (folder.parent / "lora" / "pytorch_lora_weights.safetensors").unlink()
    return beside("lora", "lora")(folder)


def autoencoder_of_other_channels(folder: Path) -> dict[str, Any]:
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=16,
    ).save_pretrained(folder.parent / "other")
    return beside("autoencoder", "other")(folder)


def autoencoder_of_another_scale(folder: Path) -> dict[str, Any]:
    AutoencoderKL(block_out_channels=(4,), norm_num_groups=4).save_pretrained(folder.parent / "other")
    return beside("autoencoder", "other")(folder)


def autoencoder_cut_off(folder: Path) -> dict[str, Any]:
    cut_off("vae/diffusion_pytorch_model.safetensors")(folder.parent)
    return beside("autoencoder", "vae")(folder)


WRONG: dict[str, tuple[Case, type[Exception], str]] = {
    "scheduler that is none": (generator(scheduler="NoScheduler"), ValueError, "'NoScheduler'; it must be the name"),
    "scheduler that is a model": (
        generator(scheduler="UNet2DConditionModel"),
        ValueError,
        "must be the name of one of",
    ),
    "scheduler of another kind": (
        generator(scheduler="FlowMatchEulerDiscreteScheduler"),
        ValueError,
        "cannot stand in for the DPMSolverMultistepScheduler",
    ),
    "variant that is not there": (generator(variant="fp16"), ValueError, "variant is 'fp16', which .* does not have"),
    "autoencoder that is not there": (beside("autoencoder", "none"), MissingWeightsError, "neither a folder nor"),
    "autoencoder that is another model": (
        lambda folder: {"generator": {"autoencoder": folder / "generator" / "unet"}},
        ValueError,
        "a UNet2DConditionModel; it must be an AutoencoderKL",
    ),
    "autoencoder of other channels": (
        autoencoder_of_other_channels,
        ValueError,
        "latents of 16 channels .* have 4 channels",
    ),
    "autoencoder of another scale": (autoencoder_of_another_scale, ValueError, "1/1 of the image's side; .* 1/2"),
    "autoencoder that is cut off": (autoencoder_cut_off, MissingWeightsError, "damaged or truncated"),
    "LoRA that is not there": (beside("lora", "none"), MissingWeightsError, "neither a folder nor"),
    "LoRA without weights": (no_lora_weights, MissingWeightsError, "lora is .* which has no .safetensors"),
    "LoRA that is cut off": (lora_cut_off, MissingWeightsError, "damaged or truncated"),
    "LoRA of another kind": (lora_of_another_kind, ValueError, "of whose weights none fits the pipeline"),
    "LoRA of another size": (lora_of_another_size, ValueError, "lora is .* for 32 channels, and the pipeline's has 16"),
    "LoRA of several files": (two_loras, ValueError, "give lora_weight_name, one of one.safetensors, two.safetensors"),
    "LoRA's file that is not there": (
        lambda folder: {"generator": {"lora": str(folder.parent / "lora"), "lora_weight_name": "a.safetensors"}},
        ValueError,
        "lora_weight_name is 'a.safetensors', which .* does not have",
    ),
    "pipeline that diffusers does not know": (
        changed("generator/model_index.json", _class_name="NoPipeline"),
        ValueError,
        "a NoPipeline; it must be one of StableDiffusionPipeline, ",
    ),
    "pipeline for something else": (
        changed("generator/model_index.json", _class_name="AudioLDMPipeline"),
        ValueError,
        "a AudioLDMPipeline; it must be one of StableDiffusionPipeline, ",
    ),
    "pipeline with code of its own": (
        changed("generator/model_index.json", unet=["my_unet", "MyUNet"]),
        ValueError,
        "MyUNet of my_unet, .* code that comes with a checkpoint is not run",
    ),
    "pipeline without a part": (
        without("generator/scheduler/scheduler_config.json"),
        MissingWeightsError,
        "scheduler is missing or empty",
    ),
    "pipeline without weights": (
        without("generator/unet/diffusion_pytorch_model.safetensors"),
        MissingWeightsError,
        r"unet has no \.safetensors file and no \.bin",
    ),
    "size that it cannot make": (generator(height=12), ValueError, "height is 12; .* multiples of 8 pixels"),
    "device that is not there": (lambda folder: {"device": "cuda:99"}, ValueError, "device is 'cuda:99'; this machine"),
    "device that is none": (lambda folder: {"device": "gpu"}, ValueError, "device is 'gpu'; it must name a device"),
    "captioner of another kind": (
        changed("captioner/config.json", model_type="vit"),
        ValueError,
        "a vit model; known kinds: blip, blip-2, git",
    ),
    "captioner without a tokenizer": (without(*TOKENIZER), MissingWeightsError, "has no tokenizer"),
    "captioner without an image processor": (
        without(*IMAGE_PROCESSOR),
        MissingWeightsError,
        "has no image processor",
    ),
    "captioner without all files of its weights": (shard_missing, MissingWeightsError, "has 1 of the 2 files"),
    "captioner whose .bin is cut off": (
        bin_cut_off,
        MissingWeightsError,
        r"pytorch_model\.bin is damaged or truncated",
    ),
    "settings that are cut off": (
        cut_off("generator/tokenizer/tokenizer_config.json"),
        MissingWeightsError,
        "tokenizer_config.json is damaged",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_when_a_pair_is_loaded(what: str, pair_folder: Path) -> None:
    case, kind, message = WRONG[what]
    options = case(pair_folder)
    with pytest.raises(kind, match=message) as raised:
        load_pair(pair_folder, **options)
    assert "\n" not in str(raised.value)


def test_what_fits_is_loaded(pair_folder: Path) -> None:
    beside = {"lora": str(pair_folder.parent / "lora"), "autoencoder": pair_folder.parent / "vae"}
    pair = load_pair(pair_folder, generator={**beside, "scheduler": "LCMScheduler", "height": 16})
    assert pair.generator.generate(["a two"], [0])[0].size == (8, 16)


def test_a_lora_under_the_names_of_other_trainers_fits_too(pair_folder: Path) -> None:
    """As the latent-consistency LoRAs name their weights."""
    file = pair_folder.parent / "lora" / "pytorch_lora_weights.safetensors"
    renamed = {}
    for name, value in load_file(file).items():
        module, _, side = name.removeprefix("unet.").removesuffix(".weight").rpartition(".")
        other = f"lora_unet_{module.replace('.', '_')}"
        renamed[f"{other}.{ {'lora_A': 'lora_down', 'lora_B': 'lora_up'}[side] }.weight"] = value
        renamed[f"{other}.alpha"] = torch.tensor(2.0)
    plain, expected = (
        load_pair(pair_folder, generator=options).generator.generate(["a two"], [0])[0].tobytes()
        for options in ({}, {"lora": str(file)})
    )
    save_file(renamed, file)
    image = load_pair(pair_folder, generator={"lora": str(file)}).generator.generate(["a two"], [0])[0].tobytes()
    assert image == expected != plain
    save_file({name.replace("attn", "other"): value for name, value in renamed.items()}, file)
    with pytest.raises(ValueError, match="of whose weights none fits the pipeline"):
        load_pair(pair_folder, generator={"lora": str(file)})


def test_a_missing_extra_is_told_at_once(pair_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avalanche_clts.pair.fitting.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'needs peft; run: pip install "avalanche-clts\[lora\]"'):
        load_pair(pair_folder, generator={"lora": str(pair_folder.parent / "lora")})


@pytest.mark.parametrize("offline_part", ["captioner", "generator", "lora", "autoencoder"])
def test_what_is_not_cached_is_told_at_once_when_offline(
    offline_part: str, pair_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    named = {"captioner": {}, "generator": {}}
    if offline_part in named:
        named[offline_part] = {"name_or_path": "someone/else"}
    else:
        named["generator"] = {offline_part: "someone/else"}
    with pytest.raises(MissingWeightsError, match=r"someone/else are not in the local cache.*HF_HUB_OFFLINE is set"):
        load_pair(pair_folder, **named)


def test_a_revision_that_is_not_cached_is_told_at_once_when_offline(
    pair_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "cache" / "models--someone--tiny"
    shutil.copytree(pair_folder / "generator", repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    assert DiffusionGenerator("someone/tiny").name_or_path == "someone/tiny"
    assert DiffusionGenerator("someone/tiny", revision="0" * 40).revision == "0" * 40
    for revision in ("v2", "1" * 40):
        with pytest.raises(MissingWeightsError, match=f"someone/tiny at {revision} are not in the local cache"):
            DiffusionGenerator("someone/tiny", revision=revision)
    (repository / "snapshots" / ("0" * 40) / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match=r"in the local cache, but not whole \(someone/tiny/vae has no"):
        DiffusionGenerator("someone/tiny")


def test_parts_by_themselves_say_it_too(pair_folder: Path) -> None:
    with pytest.raises(ValueError, match="cannot stand in for"):
        DiffusionGenerator(pair_folder / "generator", scheduler="FlowMatchEulerDiscreteScheduler")
    without(*TOKENIZER)(pair_folder)
    with pytest.raises(MissingWeightsError, match="has no tokenizer"):
        AutoCaptioner(pair_folder / "captioner")
