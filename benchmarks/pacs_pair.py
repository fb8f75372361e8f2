"""Train a pair on the first half of PACS (Li et al., ICCV 2017), at 32x32 pixels.

    python benchmarks/pacs_pair.py --pacs PACS --out OUT

PACS is a folder of the domains art_painting, cartoon, photo and sketch, each with class subfolders in train/ and test/.
The pair learns from the first half of the images of each domain's and class's train/, and its captions end with the
domain; the second half and test/ judge it. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from avalanche_clts.pretraining import PHOTOS, photos_domain, pretrain
from avalanche_clts.pretraining.photo_pool import PREFIX
from avalanche_clts.pretraining.pool import Domain, Pool

RECIPE = replace(
    PHOTOS,
    feature_steps=1000,
    autoencoder_steps=2000,
    unet_widths=(64, 128),
    diffusion_steps=3500,
    captioner_steps=2500,
    distillation_steps=400,
    num_trajectories=10_000,
)
LOOKS = {
    "art_painting": "as an art painting",
    "cartoon": "as a cartoon",
    "photo": "as a photo",
    "sketch": "as a sketch",
}
PICTURE = "a picture of a {class_name}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a pair on the first half of PACS.")
    parser.add_argument("--pacs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    domains = [pacs_domain(arguments.pacs / name, look) for name, look in LOOKS.items()]
    pretrain(arguments.out, domains=domains, recipe=RECIPE)


def pacs_domain(root: Path, look: str) -> Domain:
    domain = photos_domain(root, size=RECIPE.side, part=(1, 2))
    return replace(domain, pool=lambda: _told(domain.pool(), look), num_generated=1000, prefix=PICTURE)


def _told(pool: Pool, look: str) -> Pool:
    """With the domain at the end of every caption, and no photo at its beginning."""
    begins, begin = (prefix.partition("{")[0] for prefix in (PREFIX, PICTURE))
    captions = [f"{begin}{caption.removeprefix(begins)} {look}" for caption in pool.captions]
    return Pool(pool.images, captions, pool.targets)


if __name__ == "__main__":
    main()
