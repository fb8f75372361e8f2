"""The recipe that trains a small pair from images with captions; the pair that ships with the package is its output."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from .captioner import train_captioner
from .digits import digits_domain
from .generator import train_generator
from .pool import Domain, joined
from .quality import format_quality, measure_quality
from .recipe import Recipe
from .shapes import shapes_domain

__all__ = ["Recipe", "embedded_domains", "pretrain"]


def embedded_domains() -> list[Domain]:
    """What the pair that ships with the package knows."""
    return [digits_domain(), shapes_domain()]


def pretrain(out: Path, *, domains: Sequence[Domain] | None = None, recipe: Recipe | None = None) -> None:
    """Train captioner and generator, save both to `out`, and measure how good they are.

    A killed run goes on where it was when started again with the same `out`.
    Writes `quality.json` beside the pair.

    **Arguments:**

    - domains: what the pair learns. None: `embedded_domains()`.
    - recipe: sizes and steps. None: those of the embedded pair.
    """
    domains = domains or embedded_domains()
    recipe = recipe or Recipe()
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    pool = joined([domain.pool() for domain in domains])
    for number, (name, train) in enumerate((("captioner", train_captioner), ("generator", train_generator))):
        if not (out / name).exists():
            torch.manual_seed(number)  # of the initial weights
            train(pool, out / f"{name}.partial", work=work, recipe=recipe)
            (out / f"{name}.partial").rename(out / name)
    arguments = {
        "captioner": {"max_new_tokens": max(len(caption.split()) for caption in pool.captions) + 2, "batch_size": 100},
        "generator": {"steps": recipe.sampling_steps, "guidance_scale": recipe.guidance_scale, "batch_size": 250},
    }
    (out / "pair.json").write_text(json.dumps(arguments, indent=1) + "\n", encoding="utf-8")
    quality = measure_quality(out, domains)
    (out / "quality.json").write_text(json.dumps(quality, indent=1) + "\n", encoding="utf-8")
    print(format_quality(quality))
    shutil.rmtree(work)
