"""What a choice in the recipe for photographs gains, measured on images that the pair has not seen.

    python benchmarks/pretraining.py IMAGES --out OUT [--set feature_weight=0 --set autoencoder_steps=1000 ...]

IMAGES is a folder of class subfolders, brought to 32 pixels; half of it trains a generator of `PHOTOS`, but for what is
`--set`, and the test images judge it. Prints, and adds to OUT/pretraining.json, the decoded images' signal to noise
ratio in dB, and the shares of test images that are recognised: real ones, as they are and after the autoencoder, by a
classifier of 3,000 real images; generated ones by the same; real ones by a classifier of generated images. With
`--autoencoder-only`, there are no generated ones. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from avalanche_clts import DiffusionGenerator
from avalanche_clts._support.files import write_text
from avalanche_clts.pretraining import PHOTOS, Recipe, photos_domain
from avalanche_clts.pretraining.autoencoder import train_autoencoder
from avalanche_clts.pretraining.features import train_features
from avalanche_clts.pretraining.generator import train_generator
from avalanche_clts.pretraining.pool import pixels, to_tensor
from avalanche_clts.pretraining.quality import accuracy, batch_of, train_classifier

COUNT = 3000


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a recipe for photographs.")
    parser.add_argument("images", type=Path, metavar="IMAGES")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", dest="changes")
    parser.add_argument("--autoencoder-only", action="store_true")
    arguments = parser.parse_args()
    changes = {name: json.loads(value) for name, value in (change.split("=") for change in arguments.changes)}
    changes = {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    measured = measure(arguments.images, replace(PHOTOS, **changes), arguments.out, not arguments.autoencoder_only)
    file = arguments.out / "pretraining.json"
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    write_text(file, json.dumps([*rows, {**changes, **measured}], indent=1) + "\n")
    print(json.dumps(measured))


def measure(images: Path, recipe: Recipe, out: Path, generates: bool) -> dict[str, Any]:
    domain = photos_domain(images, size=recipe.side, part=(1, 2))
    pool, (train, test) = domain.pool(), domain.held_out()
    work = out / sha256(repr(asdict(recipe)).encode()).hexdigest()[:8]
    shown = torch.randperm(len(train.images), generator=torch.Generator().manual_seed(0))[:COUNT].tolist()
    real = batch_of([train.images[i] for i in shown], [train.targets[i] for i in shown], domain)
    pixels_of_test, targets = batch_of(*test, domain)
    torch.manual_seed(0)
    by_real = train_classifier(*real, domain)
    torch.manual_seed(0)
    found = {"by_real": accuracy(by_real, pixels_of_test, targets)}
    if generates:
        if not (work / "generator").exists():
            train_generator(pool, work / "generator", work=work, recipe=recipe)
        generator = DiffusionGenerator(str(work / "generator"), **recipe.sampling)
        picks = torch.randint(len(pool.captions), (COUNT,), generator=torch.Generator().manual_seed(0)).tolist()
        made = generator.generate([pool.captions[i] for i in picks], list(range(COUNT)))
        generated = batch_of(made, [pool.targets[i] for i in picks], domain)
        found["generated_recognised"] = accuracy(by_real, *generated)
        found["by_generated"] = accuracy(train_classifier(*generated, domain), pixels_of_test, targets)
        autoencoder = AutoencoderKL.from_pretrained(work / "generator" / "vae", dtype=torch.float32)
    else:
        learnt = to_tensor(pool.images, recipe.side)
        features = (
            train_features(learnt, pool.captions, work, recipe)
            if recipe.feature_weight and recipe.feature_steps
            else None
        )
        autoencoder = train_autoencoder(learnt, features, work, recipe)
    decoded = _decoded(autoencoder, to_tensor(test.images, recipe.side))
    error = (decoded - pixels_of_test).square().mean((1, 2, 3))
    found["psnr"] = (-10 * error.log10()).mean().item()
    found["autoencoded_by_real"] = accuracy(by_real, decoded, targets)
    return {name: round(value, 4) for name, value in found.items()}


@torch.inference_mode()
def _decoded(autoencoder: AutoencoderKL, images: Tensor) -> Tensor:
    """In [0, 1]."""
    made = [autoencoder.eval()(pixels(batch)).sample for batch in images.split(500)]
    return (torch.cat(made).clamp(-1, 1) + 1) / 2


if __name__ == "__main__":
    main()
