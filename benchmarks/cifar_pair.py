"""Train one pair on the first halves of CIFAR-10 and CIFAR-100.

    python benchmarks/cifar_pair.py --cifar10 CIFAR10 --cifar100 CIFAR100 --out OUT

CIFAR10 and CIFAR100 are folders of class subfolders in train/ and test/. The pair learns from the first half of the
images of each class in train/; the second half and test/ judge it. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from avalanche_clts.pretraining import PHOTOS, photos_domain, pretrain

RECIPE = replace(
    PHOTOS,
    feature_steps=6000,
    autoencoder_steps=5000,
    diffusion_steps=8000,
    captioner_steps=8000,
    distillation_steps=600,
    num_trajectories=10_000,
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train one pair on the first halves of CIFAR-10 and CIFAR-100.")
    parser.add_argument("--cifar10", type=Path, required=True)
    parser.add_argument("--cifar100", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    domains = [photos_domain(root, part=(1, 2)) for root in (arguments.cifar10, arguments.cifar100)]
    pretrain(arguments.out, domains=domains, recipe=RECIPE)


if __name__ == "__main__":
    main()
