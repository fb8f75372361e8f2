"""Loading a pair: every weight comes from the checkpoint, and nothing else in an experiment notices."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from avalanche_clts import AutoCaptioner, Pair, load_pair, split_digits
from avalanche_clts.pair.weights import MissingWeightsError, telling_bytes
from tests.conftest import make_clts, save_tiny_blip

Weights = dict[str, torch.Tensor]


def change(file: Path, how: Callable[[Weights], Weights]) -> None:
    save_file(how(load_file(file)), file, metadata={"format": "pt"})


def without(ending: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: value for name, value in weights.items() if not name.endswith(ending)}


def renamed(ending: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name + ("_v2" if name.endswith(ending) else ""): value for name, value in weights.items()}


def reshaped(ending: str) -> Callable[[Weights], Weights]:
    return lambda weights: {
        name: torch.zeros(3, 5) if name.endswith(ending) else value for name, value in weights.items()
    }


def use(pair: Pair) -> None:
    pair.captioner.caption([Image.new("RGB", (8, 8))])
    pair.generator.generate(["zero"], [0])


PARTS = {
    "captioner": ("model.safetensors", "encoder.layer.0.output.dense.weight", "BlipForConditionalGeneration"),
    "generator/unet": ("diffusion_pytorch_model.safetensors", "conv_out.bias", "UNet2DConditionModel"),
    "generator/vae": ("diffusion_pytorch_model.safetensors", "decoder.conv_in.weight", "AutoencoderKL"),
    "generator/text_encoder": ("model.safetensors", "final_layer_norm.weight", "CLIPTextModel"),
}


@pytest.fixture
def logged(caplog) -> Iterator[pytest.LogCaptureFixture]:
    libraries = [logging.getLogger(name) for name in ("transformers", "diffusers")]  # which tell those above nothing
    for library in libraries:
        library.addHandler(caplog.handler)
    yield caplog
    for library in libraries:
        library.removeHandler(caplog.handler)


@pytest.mark.parametrize("how", [without, renamed, reshaped])
@pytest.mark.parametrize("part", PARTS)
def test_weights_that_are_not_the_models_are_refused_by_name(
    part: str, how: Callable[[str], Callable[[Weights], Weights]], tiny_pair_folder: Path, tmp_path: Path, logged
) -> None:
    folder = tmp_path / "pair"
    shutil.copytree(tiny_pair_folder, folder)
    file, ending, kind = PARTS[part]
    change(folder / part / file, how(ending))
    with pytest.raises(MissingWeightsError) as raised:
        use(load_pair(folder))
    assert not logged.records
    message = str(raised.value)
    assert message.startswith(f"the weights in {folder / part} are not those of its {kind}: they have ")
    assert f"{ending}" in message
    assert (f"{ending} in another shape" in message) == (how is reshaped)
    assert (f"{ending}_v2, which it does not know" in message) == (how is renamed)
    assert "copy the whole checkpoint again" in message
    assert "\n" not in message


@pytest.mark.parametrize("part", PARTS)
def test_a_strategy_tells_of_them_before_it_trains(part: str, tiny_pair_folder: Path, tmp_path: Path) -> None:
    """A generator is needed after a head or two, which may have taken hours."""
    folder = tmp_path / "pair"
    shutil.copytree(tiny_pair_folder, folder)
    file, ending, _ = PARTS[part]
    change(folder / part / file, without(ending))
    clts = make_clts(load_pair(folder))
    with pytest.raises(MissingWeightsError, match=ending):
        clts.train(split_digits(5).train_stream[0])
    assert clts.clock.train_iterations == 0


def test_a_safety_checker_is_loaded_whole_and_quietly(tiny_pair_folder: Path, tmp_path: Path, caplog) -> None:
    from diffusers import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    tiny = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**tiny, "image_size": 16, "patch_size": 8}
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_pair_folder / "generator")
    pipeline.register_modules(
        safety_checker=StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, text_config=tiny)),
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
    )
    pipeline.save_pretrained(tmp_path)
    caplog.clear()
    load_pair(tiny_pair_folder, generator={"name_or_path": tmp_path}).generator.generate(["zero"], [0])
    assert "non-standard" not in caplog.text
    change(tmp_path / "safety_checker" / "model.safetensors", without("visual_projection.weight"))
    with pytest.raises(MissingWeightsError, match=r"SafetyChecker: they have no visual_projection\.weight"):
        load_pair(tiny_pair_folder, generator={"name_or_path": tmp_path}).generator.generate(["zero"], [0])


def test_another_autoencoders_weights_are_checked_too(tiny_pair_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_pair_folder / "generator" / "vae", tmp_path / "vae")
    change(tmp_path / "vae" / "diffusion_pytorch_model.safetensors", without("decoder.conv_in.weight"))
    with pytest.raises(MissingWeightsError, match=r"vae are not those of its AutoencoderKL: they have no decoder"):
        use(load_pair(tiny_pair_folder, generator={"autoencoder": tmp_path / "vae"}))


def test_buffers_that_older_versions_saved_are_welcome(tiny_pair_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pair"
    shutil.copytree(tiny_pair_folder, folder)
    for part, names in {
        "captioner": ["text_decoder.bert.embeddings.position_ids"],
        "generator/text_encoder": ["text_model.embeddings.position_ids"],
    }.items():
        extra = {name: torch.arange(12)[None] for name in names}
        change(folder / part / PARTS[part][0], lambda weights, extra=extra: weights | extra)
    use(load_pair(folder))


FROM_THE_CACHE = """
import hashlib
from avalanche_clts import DiffusionGenerator
(image,) = DiffusionGenerator("someone/tiny", steps=1, guidance_scale=1.0).generate(["zero"], [0])
print(hashlib.sha256(image.tobytes()).hexdigest())
DiffusionGenerator("someone/damaged", steps=1).generate(["zero"], [0])
"""


def test_pipelines_from_the_hub_are_loaded_as_those_from_a_folder(tiny_pair_folder: Path, tmp_path: Path) -> None:
    for name in ("tiny", "damaged"):
        repository = tmp_path / f"models--someone--{name}"
        shutil.copytree(tiny_pair_folder / "generator", repository / "snapshots" / ("0" * 40))
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)
    change(repository / "snapshots" / ("0" * 40) / "unet" / PARTS["generator/unet"][0], without("conv_out.bias"))
    (expected,) = load_pair(tiny_pair_folder).generator.generate(["zero"], [0])
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", FROM_THE_CACHE]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == hashlib.sha256(expected.tobytes()).hexdigest(), result.stderr
    assert "are not those of its UNet2DConditionModel: they have no conv_out.bias" in result.stderr


def states() -> list[bytes]:
    return [
        torch.get_rng_state().numpy().tobytes(),
        np.random.get_state()[1].tobytes() + bytes(np.random.get_state()[2]),
        repr(random.getstate()).encode(),
    ]


def test_loading_and_use_draw_from_nobodys_random_state(tiny_pair_folder: Path, monkeypatch) -> None:
    from transformers import BlipForConditionalGeneration

    load = BlipForConditionalGeneration.from_pretrained

    def drawing(*arguments: object, **options: object) -> object:
        torch.rand(3), np.random.rand(3), random.random()
        return load(*arguments, **options)

    monkeypatch.setattr(BlipForConditionalGeneration, "from_pretrained", drawing)
    pair = load_pair(tiny_pair_folder, generator={"autoencoder": tiny_pair_folder / "generator" / "vae"})
    before = states()
    use(pair)
    assert states() == before


def test_low_rank_weights_are_added_without_a_draw(tiny_pair_folder: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    unet = UNet2DConditionModel.from_pretrained(tiny_pair_folder / "generator" / "unet")
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=get_peft_model_state_dict(unet))
    pair = load_pair(tiny_pair_folder, generator={"lora": str(tmp_path)})
    before = states()
    pair.generator.generate(["zero"], [0])
    assert states() == before
    change(
        tmp_path / "pytorch_lora_weights.safetensors",
        lambda weights: {name.replace("unet.", "another.", 1): value for name, value in weights.items()},
    )
    with pytest.raises(ValueError, match="of whose weights none fits the pipeline"):
        load_pair(tiny_pair_folder, generator={"lora": str(tmp_path)}).generator.generate(["zero"], [0])


@pytest.mark.parametrize("variant", ["unet", "all"])
def test_parts_without_the_variant_are_loaded_as_they_are(variant: str, tiny_pair_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pair"
    shutil.copytree(tiny_pair_folder, folder)
    for part, (file, _, _) in PARTS.items():
        if part == "generator/unet" or (variant == "all" and part.startswith("generator")):
            path = folder / part / file
            path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))
    (expected,), (image,) = (
        load_pair(where, generator=options).generator.generate(["zero"], [0])
        for where, options in ((tiny_pair_folder, {}), (folder, {"variant": "fp16"}))
    )
    assert image.tobytes() == expected.tobytes()


class Harm:
    """Pickled, it runs code when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.file,)


def test_a_bin_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    save_tiny_blip(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    harmed = tmp_path / "harmed"
    torch.save(weights | {"extra": Harm(harmed)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"pytorch_model\.bin is refused, .* more than weights") as raised:
        AutoCaptioner(tmp_path)
    assert "\n" not in str(raised.value)
    assert not harmed.exists()
    torch.load(tmp_path / "pytorch_model.bin", weights_only=False)
    assert harmed.exists(), "it would have run code"


def test_safetensors_are_taken_where_there_is_a_bin_beside(tmp_path: Path) -> None:
    save_tiny_blip(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not even weights")
    assert len(AutoCaptioner(tmp_path, max_new_tokens=4).caption([Image.new("RGB", (8, 8))])) == 1


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_what_learnt_on_in_its_last_layers_alone_is_another(suffix: str, tmp_path: Path) -> None:
    """Of the same files, lengths and first megabyte."""
    weights = {name: torch.zeros(2**19) for name in ("first", "last")}
    file, save = tmp_path / f"model{suffix}", save_file if suffix == ".safetensors" else torch.save

    def told() -> list[bytes]:
        save(weights, file)
        return list(telling_bytes(file))

    before, length = told(), file.stat().st_size
    assert told() == before
    weights["last"] += 1
    assert told() != before
    assert file.stat().st_size == length
    file.write_bytes(b"\xff" * length)
    assert list(telling_bytes(file)) == [b"\xff" * 2**20], "damaged"
