"""Folders of pairs as users have them: what is odd is read; what libraries would make do without is told at load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from PIL.ExifTags import Base
from safetensors.torch import load_file

from avalanche_clts import AutoCaptioner, DiffusionGenerator, Pair, load_pair
from avalanche_clts.images.files import open_image
from avalanche_clts.pair.composition import generator_parts
from avalanche_clts.pair.loading import pair_arguments
from avalanche_clts.pair.parts import weights_of
from avalanche_clts.pair.repositories import folder_listing
from avalanche_clts.pair.weights import MissingWeightsError
from tests import tiny_captioners, tiny_pipelines


@pytest.fixture
def folder(tiny_pair_folder: Path, tmp_path: Path) -> Path:
    """A pair's, to be changed."""
    shutil.copytree(tiny_pair_folder, tmp_path / "pair")
    return tmp_path / "pair"


def test_a_pair_json_of_an_editor_that_begins_with_a_mark_is_read(folder: Path) -> None:
    (folder / "pair.json").write_text('{"generator": {"steps": 3}}', encoding="utf-8-sig")
    assert load_pair(folder).generator.steps == 3
    (folder / "pair.json").write_text('{"captionner": {"batch_size": 3}}')
    with pytest.raises(ValueError, match=r"pair\.json has 'captionner'; it may have captioner and generator"):
        load_pair(folder)


def test_images_in_files_are_seen_as_everywhere(tiny_pair: Pair, tmp_path: Path) -> None:
    """Of 16 bits, and turned by their EXIF data: as `clts caption` opens them."""
    grey = np.tile(np.linspace(0, 2**16 - 1, 16).astype(np.uint16), (16, 1))
    Image.fromarray(grey).save(tmp_path / "deep.png")
    turned = Image.fromarray((grey >> 8).astype(np.uint8))
    turned.getexif()[Base.Orientation] = 6
    turned.save(tmp_path / "turned.png", exif=turned.getexif())
    for name in ("deep.png", "turned.png"):
        with Image.open(tmp_path / name) as raw:
            seen = tiny_pair.captioner._pixels([raw])
        assert torch.equal(seen, tiny_pair.captioner._pixels([open_image(tmp_path / name)]))
        assert seen.std() > 0.1


INCOMPLETE = {
    "no vocabulary": (lambda g: [(g / "tokenizer" / n).unlink(missing_ok=True) for n in VOCABULARY], "no tokenizer"),
    "no merges": (
        lambda g: [(g / "tokenizer" / n).unlink(missing_ok=True) for n in ("tokenizer.json", "merges.txt")],
        "no tokenizer",
    ),
    "a pointer": (
        lambda g: (g / "tokenizer" / "tokenizer_config.json").write_text("version https://git-lfs.github.com/spec/v1"),
        "run: git lfs pull",
    ),
    "no unet in the index": (lambda g: reindex(g, unet=None), "names no unet, which a StableDiffusionPipeline is made"),
    "a scheduler to come": (lambda g: reindex(g, scheduler=["diffusers", "Soon"]), "is a Soon, which diffusers"),
}
VOCABULARY = ("tokenizer.json", "vocab.json", "merges.txt")


def reindex(generator: Path, **parts: list[str] | None) -> None:
    file = generator / "model_index.json"
    index = json.loads(file.read_text()) | parts
    file.write_text(json.dumps({name: entry for name, entry in index.items() if entry is not None}))


@pytest.mark.parametrize("case", INCOMPLETE)
def test_what_libraries_would_make_do_without_is_told_at_once(case: str, folder: Path) -> None:
    """An empty vocabulary makes one image of all prompts."""
    damage, told = INCOMPLETE[case]
    damage(folder / "generator")
    with pytest.raises((MissingWeightsError, ValueError), match=told):
        load_pair(folder)


def test_prompts_end_where_the_text_encoder_does(tiny_pair_folder: Path, folder: Path) -> None:
    """Also where the tokenizer's files do not say where that is."""
    file = folder / "generator" / "tokenizer" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config.pop("model_max_length")
    file.write_text(json.dumps(config))
    for generator in (load_pair(folder).generator, load_pair(tiny_pair_folder).generator):
        assert generator.cut_prompts(["zero " * 40, "zero"]) == 1
        assert len(generator.generate(["zero " * 40], [0])) == 1


def test_weights_of_another_variant_alone_are_named(folder: Path) -> None:
    for file in sorted((folder / "generator").rglob("*.safetensors")):
        file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
    with pytest.raises(ValueError, match="has its weights as fp16 alone; give variant='fp16'"):
        load_pair(folder)
    assert len(load_pair(folder, generator={"variant": "fp16"}).generator.generate(["zero"], [0])) == 1


def test_a_variant_is_taken_in_any_format_before_another(folder: Path) -> None:
    unet = folder / "generator" / "unet"
    weights = load_file(unet / "diffusion_pytorch_model.safetensors")
    halves = {name: value.half() for name, value in weights.items()}
    torch.save(halves, unet / "diffusion_pytorch_model.fp16.bin")
    found = {variant: weights_of(folder_listing(folder / "generator"), "unet", variant) for variant in ("fp16", None)}
    assert found["fp16"].files == ("unet/diffusion_pytorch_model.fp16.bin",)
    assert found[None].files == ("unet/diffusion_pytorch_model.safetensors",)


def test_captioners_lack_none_of_their_files(tmp_path: Path) -> None:
    """Of models that are told what to write, each would fail in mid-run without."""
    for kind in ("idefics3", "florence2"):
        folder = tiny_captioners.save_tiny(kind, tmp_path / kind)
        AutoCaptioner(folder)
        (folder / "tokenizer_config.json").rename(folder / "aside")
        with pytest.raises(MissingWeightsError, match=r"has no tokenizer_config\.json"):
            AutoCaptioner(folder)
        (folder / "aside").rename(folder / "tokenizer_config.json")
        (folder / "preprocessor_config.json").unlink()
        with pytest.raises(MissingWeightsError, match=r"no image processor, no preprocessor_config\.json and none in"):
            AutoCaptioner(folder)


def test_a_scheduler_is_tried_as_the_pipeline_asks_it(tmp_path: Path) -> None:
    folder = tiny_pipelines.save_tiny("LatentConsistencyModelPipeline", tmp_path / "lcm")
    DiffusionGenerator(folder, steps=4)
    with pytest.raises(ValueError, match=r"steps is 4, and the TCDScheduler of .* cannot make images in so many"):
        DiffusionGenerator(folder, scheduler="TCDScheduler", steps=4)


@pytest.mark.parametrize("scheduler", ["RePaintScheduler", "UnCLIPScheduler", "CogVideoXDPMScheduler"])
def test_schedulers_that_take_other_steps_are_refused(scheduler: str, tiny_pair_folder: Path) -> None:
    with pytest.raises(ValueError, match=f"steps is 4, and the {scheduler} of .* cannot make images in so many"):
        load_pair(tiny_pair_folder, generator={"scheduler": scheduler, "steps": 4})


def test_more_steps_than_a_scheduler_has_are_refused(tiny_pair_folder: Path) -> None:
    load_pair(tiny_pair_folder, generator={"scheduler": "LCMScheduler", "steps": 4})
    with pytest.raises(ValueError, match=r"steps is 51, and the LCMScheduler of .* cannot make images in so many"):
        load_pair(tiny_pair_folder, generator={"scheduler": "LCMScheduler", "steps": 51})


def test_what_is_said_of_low_rank_weights_goes_with_them() -> None:
    own = pair_arguments("blip+sd15-lcm")[1]
    assert {"lora", "lora_weight_name"} <= own.keys()
    without = pair_arguments("blip+sd15-lcm", generator={"lora": None})[1]
    assert without["lora"] is None
    assert "lora_weight_name" not in without
    assert generator_parts(without).keys() == {"generator"}
    with pytest.raises(ValueError, match="lora_revision is 'v2', and there is no lora"):
        generator_parts({"lora_revision": "v2"})


def test_shards_go_with_their_index(folder: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(folder / "generator" / "unet")
    shutil.rmtree(folder / "generator" / "unet")
    unet.save_pretrained(folder / "generator" / "unet", max_shard_size="20KB")
    index = folder / "generator" / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    assert len(load_pair(folder).generator.generate(["zero"], [0])) == 1
    whole = json.loads(index.read_text())
    moved = whole | {"weight_map": dict.fromkeys(whole["weight_map"], "other.safetensors")}
    for content, told in (({}, ""), (moved, ": there is no other.safetensors")):
        index.write_text(json.dumps(content))
        with pytest.raises(MissingWeightsError, match=f"does not go with the weights beside it{told}; copy the whole"):
            load_pair(folder)
