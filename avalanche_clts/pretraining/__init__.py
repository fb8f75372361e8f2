"""The recipe that trains a small pair from images with captions; the pair that ships with the package is its output."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from .captioner import train_captioner
from .digits import digit_pool
from .generator import train_generator
from .quality import format_quality, measure_quality

__all__ = ["pretrain"]

_ARGUMENTS = {
    "captioner": {"max_new_tokens": 13, "batch_size": 100},
    "generator": {"steps": 6, "guidance_scale": 1.0, "batch_size": 250},
}


def pretrain(out: Path, *, pool_size: int = 20_000) -> None:
    """Train captioner and generator on augmented digits, save both to `out`, and measure how good they are.

    A killed run goes on where it was when started again with the same `out`.
    Writes `quality.json` beside the pair.
    """
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    pool = digit_pool(pool_size)
    torch.manual_seed(0)  # of the initial weights
    if not (out / "captioner").exists():
        train_captioner(pool, out / "captioner.partial", work=work)
        (out / "captioner.partial").rename(out / "captioner")
    torch.manual_seed(1)
    if not (out / "generator").exists():
        train_generator(pool, out / "generator.partial", work=work)
        (out / "generator.partial").rename(out / "generator")
    (out / "pair.json").write_text(json.dumps(_ARGUMENTS, indent=1) + "\n", encoding="utf-8")
    quality = measure_quality(out)
    (out / "quality.json").write_text(json.dumps(quality, indent=1) + "\n", encoding="utf-8")
    print(format_quality(quality))
    shutil.rmtree(work)
