"""Train the pair `embedded-mnist-blood`: handwritten digits as MNIST has them, and peripheral blood cells.

    python benchmarks/mnist_blood.py --mnist MNIST --cells CELLS --out OUT

MNIST and CELLS are folders of class subfolders in train/ and test/: MNIST's 28x28 digits as PNG, classes called
"0 - zero" and so on as torchvision calls them, and the cells of Acevedo et al. (Data in Brief 2020) at 64x64, "ig"
renamed to "immature granulocyte". The pair learns from the first half of the images of each class in train/; the second
half and test/ judge it. A killed run goes on where it was. At the end, OUT/shipped is the pair as the package has it,
with its weights in 8 bits, measured anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from avalanche_clts._support.files import write_text
from avalanche_clts.pair.prompts import fill
from avalanche_clts.pretraining import PHOTOS, Recipe, photos_domain, pretrain
from avalanche_clts.pretraining.digit_pool import measure, to_tensor
from avalanche_clts.pretraining.layout import in_eight_bits
from avalanche_clts.pretraining.photo_pool import PREFIX
from avalanche_clts.pretraining.pool import Domain, Pool
from avalanche_clts.pretraining.quality import format_quality, measure_quality

RECIPE = replace(
    PHOTOS,
    feature_steps=1500,
    autoencoder_steps=4000,
    unet_widths=(64, 128),
    diffusion_steps=5000,
    captioner_steps=4000,
    distillation_steps=600,
    num_trajectories=10_000,
    router_view="input",  # which is as good here, and faster
)
DIGIT = "a handwritten digit {class_name}"  # as the stream `split-mnist` has its captions begin; half of them do here
_CLOSE = 200 / 360  # of the sides, which is what BloodMNIST shows of these photographs


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the pair embedded-mnist-blood.")
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--cells", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    domains = [mnist_domain(arguments.mnist), cells_domain(arguments.cells)]
    pretrain(arguments.out, domains=domains, recipe=RECIPE)
    shipped = arguments.out / "shipped"
    for part in ("captioner", "generator"):
        shutil.copytree(arguments.out / part, shipped / part, dirs_exist_ok=True)
    shutil.copy(arguments.out / "pair.json", shipped)
    in_eight_bits(shipped)
    quality = measure_quality(shipped, domains)
    print(format_quality(quality))
    command = "python benchmarks/mnist_blood.py --mnist MNIST --cells CELLS --out OUT"
    write_text(shipped / "quality.json", json.dumps({"command": command, **quality}, indent=1) + "\n")


def mnist_domain(root: Path) -> Domain:
    domain = photos_domain(root, part=(1, 2), mirror=False)
    return replace(domain, name="MNIST", pool=lambda: _digits(domain))


def cells_domain(root: Path, recipe: Recipe = RECIPE) -> Domain:
    domain = photos_domain(root, size=recipe.side, part=(1, 2))
    large = photos_domain(root, part=(1, 2))
    return replace(domain, name="blood cells", pool=lambda: _cells(domain.pool(), large.pool()))


def _digits(domain: Domain) -> Pool:
    """Each with the thickness and slant of its stroke and its size, relative to its class."""
    images, _, targets = domain.pool()
    measures = torch.stack([torch.cat(list(batch)) for batch in zip(*map(_measured, _chunks(images)), strict=True)])
    classes = torch.tensor(targets)
    thirds = torch.zeros_like(measures, dtype=torch.long)
    for label in range(len(domain.class_names)):
        mine = classes == label
        low, high = torch.quantile(measures[:, mine], torch.tensor([1 / 3, 2 / 3]), dim=1)
        thirds[:, mine] = (measures[:, mine] > low[:, None]).long() + (measures[:, mine] > high[:, None]).long()
    return Pool(
        images,
        [
            describe(domain.class_names[label], *row, prefix=(PREFIX, DIGIT)[i % 2])
            for i, (label, row) in enumerate(zip(targets, thirds.T.tolist(), strict=True))
        ],
        targets,
    )


def describe(class_name: str, thickness: int, slant: int, size: int, *, prefix: str) -> str:
    """The caption of a digit whose measures lie in the given thirds (0 lower, 1 middle, 2 upper) of its class."""
    words = [
        fill(prefix, class_name),
        ("small", "", "large")[size],
        ("thin", "", "thick")[thickness],
        ("slanted to the left", "upright", "slanted to the right")[slant],
    ]
    return " ".join(word for word in words if word)


def _chunks(images: list[Image.Image]) -> list[list[Image.Image]]:
    return [images[i : i + 2000] for i in range(0, len(images), 2000)]


def _measured(images: list[Image.Image]) -> list[torch.Tensor]:
    found = measure(to_tensor(images))
    return [found[name] for name in ("thickness", "slant", "size")]


def _cells(whole: Pool, large: Pool) -> Pool:
    """The whole photographs and, as BloodMNIST shows them, their middles."""
    middles = []
    for image in large.images:
        width, height = image.size
        x, y = round(width * (1 - _CLOSE) / 2), round(height * (1 - _CLOSE) / 2)
        middles.append(image.crop((x, y, width - x, height - y)))
    return Pool(
        [*whole.images, *middles],
        [*whole.captions, *(f"{caption} close up" for caption in whole.captions)],
        [*whole.targets, *large.targets],
    )


if __name__ == "__main__":
    main()
