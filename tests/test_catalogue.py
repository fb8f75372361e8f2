"""Every entry of the catalogue, as a tiny repository of the same name, family and files: fetched, and then offline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avalanche_clts import BlipCaptioner, load_pair
from avalanche_clts.pair.catalogue import CAPTIONERS, GENERATORS
from avalanche_clts.pair.fetching import fetch
from tests.hub import Hub
from tests.test_families import CAPTIONER_FAMILIES, GENERATOR_FAMILIES, as_bin, pictures, save_lora
from tests.test_instructed import RECIPES as FAMILY_OF_INSTRUCTED
from tests.test_pipelines import RECIPES as PIPELINE_OF
from tests.tiny_pipelines import TINY

FAMILY_OF = {"blip": "blip", "blip-large": "blip", "git": "git", "blip2": "blip-2", **FAMILY_OF_INSTRUCTED}
WITHOUT_SAFETENSORS = ("blip", "git")
SMALL = {"height": 32, "width": 32}


def with_halves(folder: Path) -> None:
    """The same weights once more, as a variant."""
    for file in [*folder.glob("*/model.safetensors"), *folder.glob("*/diffusion_pytorch_model.safetensors")]:
        file.with_name(f"{file.stem}.fp16.safetensors").write_bytes(file.read_bytes())


def stock(hub: Hub, folder: Path, arguments: dict[str, Any], save: Callable[[Path], None]) -> None:
    torch.manual_seed(0)
    save(folder)
    (folder / "README.md").write_text("about it")
    (folder / "all-in-one.safetensors").write_bytes(b"0" * 1000)
    hub.add(arguments["name_or_path"], folder, "v2")


@pytest.mark.parametrize("name", CAPTIONERS)
def test_a_captioner_works_offline_once_it_is_fetched(
    name: str, hub: Hub, offline: Callable[[], None], tmp_path: Path, tiny_pair_folder: Path
) -> None:
    arguments = CAPTIONERS[name].arguments
    stock(hub, tmp_path / "captioner", arguments, CAPTIONER_FAMILIES[FAMILY_OF[name]])
    if name in WITHOUT_SAFETENSORS:
        as_bin(tmp_path / "captioner")
    fetch(f"{name}@v2", say=lambda line: None)
    offline()
    captioner = load_pair(f"{name}@v2+{tiny_pair_folder}").captioner
    assert captioner.revision == "v2"
    assert isinstance(captioner, BlipCaptioner) == (name in ("blip", "blip-large"))
    assert captioner.prompt == arguments.get("prompt")
    (caption,) = captioner.caption(pictures(1), ["eight"])
    assert caption.startswith("a photo of an eight")
    assert not {f"{arguments['name_or_path']}/{file}" for file in ("README.md", "all-in-one.safetensors")} & {*hub.sent}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_works_offline_once_it_is_fetched(
    name: str, hub: Hub, offline: Callable[[], None], tmp_path: Path, tiny_pair_folder: Path
) -> None:
    arguments = GENERATORS[name].arguments
    save = TINY[PIPELINE_OF[name]] if name in PIPELINE_OF else GENERATOR_FAMILIES[name.removesuffix("-lcm")]
    stock(hub, tmp_path / "generator", arguments, save)
    if "variant" in arguments:
        with_halves(tmp_path / "generator")
    if "lora" in arguments:
        save_lora(tmp_path / "lora", tmp_path / "generator")
        hub.add(arguments["lora"], tmp_path / "lora")
    fetch(f"{name}@v2", say=lambda line: None)
    offline()
    generator = load_pair(f"{tiny_pair_folder}+{name}@v2", generator=SMALL).generator
    assert (generator.revision, generator.steps) == ("v2", arguments["steps"])
    assert generator.generate(["a two"], [0])[0].size == (32, 32)
    assert "scheduler" not in arguments or type(generator._pipeline.scheduler).__name__ == arguments["scheduler"]
    assert not {f"{arguments['name_or_path']}/{file}" for file in ("README.md", "all-in-one.safetensors")} & {*hub.sent}
    halves = [file for file in hub.sent if file.endswith(".safetensors") and "lora" not in file]
    assert all(".fp16." in file for file in halves) == ("variant" in arguments)


COUNTED = Path(__file__).parents[1] / "benchmarks/results/catalogue/parameters.json"
LCM_LORA = 67_500_000


@pytest.mark.parametrize("name", [*CAPTIONERS, *GENERATORS])
def test_numbers_of_parameters_are_those_that_were_counted(name: str) -> None:
    counted = json.loads(COUNTED.read_text(encoding="utf-8"))
    total = counted[name.removesuffix("-lcm")]["total"] + (LCM_LORA if name.endswith("-lcm") else 0)
    assert (CAPTIONERS | GENERATORS)[name].millions == round(total / 1e6)
