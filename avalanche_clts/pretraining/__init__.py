"""The recipe that trains a small pair from images with captions; the pair that ships with the package is its output."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from .._support.console import begin, set_verbosity, verbosity
from .._support.files import read_state, whole_folder, write_text
from .._support.locks import held
from .._support.processes import end_with_parent
from .captioner import train_captioner, words_of
from .digit_pool import digits_domain
from .generator import train_generator
from .photo_pool import photos_domain
from .pool import Domain, Pool, joined
from .quality import format_quality, measure_quality
from .recipe import PHOTOS, PHOTOS_ON_GPU, Recipe
from .shape_pool import shapes_domain

__all__ = ["PHOTOS", "PHOTOS_ON_GPU", "Recipe", "embedded_domains", "photos_domain", "pretrain", "require_own_folder"]


_PARTS = {"generator": train_generator, "captioner": train_captioner}
_RECIPE, _WORK = "recipe.json", "work"  # what is trained, and the checkpoints of its training
_PAIR, _QUALITY = "pair.json", "quality.json"


def embedded_domains() -> list[Domain]:
    """What the pair that ships with the package knows."""
    return [digits_domain(), shapes_domain()]


def pretrain(out: Path, *, domains: Sequence[Domain] | None = None, recipe: Recipe | None = None) -> None:
    """Train captioner and generator, save both to `out`, and measure how good they are.

    A killed run goes on where it was when started again with the same arguments; of a finished one, the quality is
    printed again. Writes `recipe.json` and `quality.json` beside the pair; the latter with the seconds that each part
    was trained for.

    **Arguments:**

    - domains: what the pair learns. None: `embedded_domains()`.
    - recipe: sizes and steps. None: those of the embedded pair.

    Raises `ValueError` if `out` holds a pair of another recipe, of other images, or one that was not trained here.
    """
    domains = domains or embedded_domains()
    recipe = recipe or Recipe()
    require_own_folder(out)
    with held(out / ".lock", out):
        _pretrain(out, domains, recipe)


def _pretrain(out: Path, domains: Sequence[Domain], recipe: Recipe) -> None:
    work = out / _WORK
    pool = joined([domain.pool() for domain in domains])
    captions, images = hashlib.sha256("\n".join(pool.captions).encode()), hashlib.sha256()
    for image in pool.images:
        images.update(f"{image.mode} {image.size}".encode() + image.tobytes())
    learnt = {"captions": captions.hexdigest(), "images": images.hexdigest()}
    out.mkdir(parents=True, exist_ok=True)
    _require_same(out / _RECIPE, {"domains": [domain.name for domain in domains], **learnt, **asdict(recipe)})
    # Side by side, each with half of the cores.
    threads = max(1, (os.cpu_count() or 1) // 2)
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=_begin_process, initargs=(verbosity(),)
    ) as other:
        captioner = other.submit(_train_part, "captioner", pool, out, recipe, threads)
        _train_part("generator", pool, out, recipe, threads)
        captioner.result()
    write_text(out / _PAIR, json.dumps(arguments_of_pair(domains, pool, recipe), indent=1) + "\n")
    measured = out / _QUALITY
    if measured.exists():
        quality = json.loads(measured.read_text(encoding="utf-8"))
        print(format_quality(quality))
        _remove_checkpoints(work, quality.get("seconds", ()))
        return
    begin("measuring the quality")
    quality = measure_quality(out, domains, device=recipe.device)
    quality["seconds"] = {file.stem: read_state(file)["seconds"] for file in sorted(work.glob("*.safetensors"))}
    write_text(measured, json.dumps(quality, indent=1) + "\n")
    print(format_quality(quality))
    _remove_checkpoints(work, quality["seconds"])


def require_own_folder(out: Path) -> None:
    """Raise `ValueError` if what a training writes would take the place of something that none has written."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out is {str(out)!r}, which is a file; give a folder")
    if not (out / _RECIPE).exists():
        unfinished = [f"{name}{ending}" for name in _PARTS for ending in (".partial", ".replaced.partial")]
        own = [name for name in (*_PARTS, *unfinished, _PAIR, _QUALITY, _WORK) if (out / name).exists()]
        if own:
            raise ValueError(
                f"out is {str(out)!r}, which holds {own[0]} and no {_RECIPE}: nothing of this training; give a folder "
                "of its own"
            )


def _remove_checkpoints(work: Path, trained: Iterable[str]) -> None:
    """Those of what was trained, and nothing that others have put beside them."""
    for name in trained:
        (work / f"{name}.safetensors").unlink(missing_ok=True)
    for trajectories in (work / "trajectories").glob("[0-9][0-9][0-9][0-9].safetensors"):
        trajectories.unlink()
    for folder in (work / "trajectories", work):
        with suppress(OSError):  # not there, or not empty
            folder.rmdir()


def arguments_of_pair(domains: Sequence[Domain], pool: Pool, recipe: Recipe) -> dict[str, dict[str, Any]]:
    """What `pair.json` says: the arguments with which a pair's parts are used as they were trained."""
    captioner: dict[str, Any] = {"max_new_tokens": max(len(words_of(c)) for c in pool.captions) + 2, "batch_size": 100}
    prefixes = {domain.prefix for domain in domains}
    if len(prefixes) == 1 and None not in prefixes:
        captioner["prefix"] = domains[0].prefix
    generator: dict[str, Any] = {**recipe.sampling, "batch_size": 250}
    if recipe.router_view != "input":
        generator["router_view"] = recipe.router_view
    if any(width != height for width, height in (domain.format.size for domain in domains)):
        # It has learnt from such images as squares, and makes them so.
        generator |= {"width": recipe.side, "height": recipe.side}
    return {"captioner": captioner, "generator": generator}


def _begin_process(verbosity: int) -> None:
    end_with_parent()
    set_verbosity(verbosity)


def _require_same(file: Path, recipe: dict[str, Any]) -> None:
    """Keep the recipe, or raise `ValueError` if another is kept already: parts of two would not fit together."""
    text = json.dumps(recipe, indent=1) + "\n"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"{file.parent} holds a pair that was begun with other settings or images ({file.name}); "
            "choose another folder"
        )
    write_text(file, text)


def _train_part(name: str, pool: Pool, out: Path, recipe: Recipe, threads: int) -> None:
    """Train one part of the pair and save it to `out/name`, unless it is there."""
    if (out / name).exists():
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(list(_PARTS).index(name))  # of the initial weights
    # Every batch has the same shape: a GPU may take its time to find the fastest convolutions.
    with whole_folder(out / name) as partial, torch.backends.cudnn.flags(enabled=True, benchmark=True):
        _PARTS[name](pool, partial, work=out / _WORK, recipe=recipe)
    torch.set_num_threads(before)
