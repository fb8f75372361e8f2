"""Every entry of the catalogue, against a tiny repository of the same name, family and files in the local cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import constants

from avalanche_clts import BlipCaptioner, load_pair
from avalanche_clts.pair.catalogue import CAPTIONERS, GENERATORS
from tests.test_families import CAPTIONER_FAMILIES, GENERATOR_FAMILIES, save_lora
from tests.test_instructed import RECIPES as FAMILY_OF_INSTRUCTED
from tests.test_pipelines import RECIPES as PIPELINE_OF
from tests.tiny_pipelines import TINY

FAMILY_OF = {"blip": "blip", "blip-large": "blip", "git": "git", "blip2": "blip-2", **FAMILY_OF_INSTRUCTED}


def cached(cache: Path, name: str, revision: str, save: Callable[[Path], None]) -> None:
    """A repository as the hub's client caches it."""
    repository = cache / f"models--{name.replace('/', '--')}"
    commit = hashlib.sha1(name.encode()).hexdigest()
    if not repository.exists():
        save(repository / "snapshots" / commit)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / revision).write_text(commit)


def save_as_half(folder: Path, save: Callable[[Path], None]) -> None:
    save(folder)
    for file in [*folder.glob("*/model.safetensors"), *folder.glob("*/diffusion_pytorch_model.safetensors")]:
        file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))


def test_catalogue_entries_are_what_the_classes_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name, entry in CAPTIONERS.items():
        cached(tmp_path, entry.arguments["name_or_path"], "abc", CAPTIONER_FAMILIES[FAMILY_OF[name]])
    for name, entry in GENERATORS.items():
        save = TINY[PIPELINE_OF[name]] if name in PIPELINE_OF else GENERATOR_FAMILIES[name.removesuffix("-lcm")]
        if "variant" in entry.arguments:
            save = partial(save_as_half, save=save)
        cached(tmp_path, entry.arguments["name_or_path"], "v2", save)
        if "lora" in entry.arguments:
            pipeline = tmp_path / f"models--{entry.arguments['name_or_path'].replace('/', '--')}" / "snapshots"
            save = partial(save_lora, pipeline=next(pipeline.iterdir()))
            cached(tmp_path, entry.arguments["lora"], "main", save)
    every = [(captioner, "sd15") for captioner in CAPTIONERS] + [("blip", generator) for generator in GENERATORS]
    for captioner, generator in every:
        pair = load_pair(f"{captioner}@abc+{generator}@v2")
        assert (pair.captioner.revision, pair.generator.revision) == ("abc", "v2")
        assert isinstance(pair.captioner, BlipCaptioner) == (captioner in ("blip", "blip-large"))
        assert pair.captioner.prompt == CAPTIONERS[captioner].arguments.get("prompt")
        assert pair.generator.steps == GENERATORS[generator].arguments["steps"]
    few = load_pair("git@abc+sd15-lcm@v2").generator
    assert few.generate(["a two"], [0])[0].size == (8, 8)
    assert type(few._pipeline.scheduler).__name__ == "LCMScheduler"
