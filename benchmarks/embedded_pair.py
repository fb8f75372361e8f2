"""Measure the embedded pair, and draw some of its images for the docs.

    python benchmarks/embedded_pair.py

Writes benchmarks/results/embedded-pair/quality.json and docs/assets/generated-digits.png, generated-shapes.png and, of
the pair `embedded-mnist-blood`, generated-mnist-blood.png.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import cycle, islice, product
from pathlib import Path

from PIL import Image

from avalanche_clts import load_pair
from avalanche_clts._support.files import write_text
from avalanche_clts.pair.catalogue import PREFIX
from avalanche_clts.pair.prompts import fill
from avalanche_clts.pretraining import digit_pool as digits
from avalanche_clts.pretraining import embedded_domains
from avalanche_clts.pretraining.quality import format_quality, measure_quality
from avalanche_clts.streams import embedded_shapes as shapes
from avalanche_clts.streams.blood import CLASS_NAMES as BLOOD

ROOT = Path(__file__).parents[1]


def main() -> None:
    quality = measure_quality("embedded", embedded_domains())
    print(format_quality(quality))
    folder = ROOT / "benchmarks" / "results" / "embedded-pair"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(
        folder / "quality.json",
        json.dumps({"command": "python benchmarks/embedded_pair.py", **quality}, indent=1) + "\n",
    )
    assets = ROOT / "docs" / "assets"
    assets.mkdir(exist_ok=True)
    pages = {
        "generated-digits.png": sheet(digit_prompts()),
        "generated-shapes.png": sheet(shape_prompts()),
        "generated-mnist-blood.png": sheet(mnist_blood_prompts(), pair="embedded-mnist-blood", columns=20, side=40),
    }
    for name, page in pages.items():
        page.quantize(256).save(assets / name, optimize=True)


def digit_prompts() -> list[str]:
    """Ten captions of each digit, a row a digit, with every third column another thickness, slant and size."""
    looks = list(islice(cycle(product(range(3), range(3), range(3))), 0, 90, 8))[:10]
    return [digits.describe(label, thickness=t, slant=s, size=z) for label in range(10) for t, s, z in looks]


def shape_prompts() -> list[str]:
    """Ten captions of each shape, a row a shape, in the looks of the stream's first images."""
    count = len(shapes.CLASS_NAMES)
    looks = [shapes.draw(label, shapes.STREAM_SEED + i)[1] for label in range(count) for i in range(10)]
    return [shapes.describe(i // 10, look) for i, look in enumerate(looks)]


def mnist_blood_prompts() -> list[str]:
    """Ten captions of each digit and of each kind of cell."""
    looks = ("small thin upright", "large thick slanted to the right", "upright", "slanted to the left", "thin upright")
    digits_of_mnist = [f"{fill(PREFIX, name)} {look}" for name in digits.CLASS_NAMES for look in 2 * looks]
    of_cells = [f"purple on {ground} in bright light{cut}" for cut in ("", " close up") for ground in ("white", "pink")]
    cells = [f"{fill(PREFIX, name)} {look}" for name in BLOOD for look in (3 * of_cells)[:10]]
    return [*digits_of_mnist, *cells]


def sheet(
    prompts: Sequence[str], *, pair: str = "embedded", columns: int = 10, side: int = 64, gap: int = 4
) -> Image.Image:
    """The images of the prompts, row by row."""
    images = load_pair(pair).generator.generate(prompts, list(range(len(prompts))))
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + gap) + gap), "white")
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        place = (gap + column * (side + gap), gap + row * (side + gap))
        page.paste(image.resize((side, side), Image.Resampling.BICUBIC), place)
    return page


if __name__ == "__main__":
    main()
