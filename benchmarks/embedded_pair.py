"""Measure the embedded pair, and draw a hundred of its images for the docs.

    python benchmarks/embedded_pair.py

Writes benchmarks/results/embedded-pair/quality.json and docs/assets/generated-digits.png.
"""

from __future__ import annotations

import json
from itertools import cycle, islice, product
from pathlib import Path

from PIL import Image

from avalanche_clts import load_pair
from avalanche_clts.compare.results import write_text
from avalanche_clts.pretraining.digits import describe
from avalanche_clts.pretraining.quality import format_quality, measure_quality

ROOT = Path(__file__).parents[1]


def main() -> None:
    quality = measure_quality("embedded")
    print(format_quality(quality))
    folder = ROOT / "benchmarks" / "results" / "embedded-pair"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(
        folder / "quality.json",
        json.dumps({"command": "python benchmarks/embedded_pair.py", **quality}, indent=1) + "\n",
    )
    (ROOT / "docs" / "assets").mkdir(exist_ok=True)
    grid().save(ROOT / "docs" / "assets" / "generated-digits.png", optimize=True)


def grid(*, side: int = 64, gap: int = 4) -> Image.Image:
    """Ten images of each digit, a row a digit, with every third column another thickness, slant and size."""
    looks = list(islice(cycle(product(range(3), range(3), range(3))), 0, 90, 8))[:10]
    prompts = [describe(label, thickness=t, slant=s, size=z) for label in range(10) for t, s, z in looks]
    images = load_pair("embedded").generator.generate(prompts, list(range(100)))
    sheet = Image.new("RGB", (10 * (side + gap) + gap,) * 2, "white")
    for i, image in enumerate(images):
        row, column = divmod(i, 10)
        place = (gap + column * (side + gap), gap + row * (side + gap))
        sheet.paste(image.resize((side, side), Image.Resampling.BICUBIC), place)
    return sheet


if __name__ == "__main__":
    main()
