"""Bytes of streams' images: raw as `uint8`, which is how a comparison counts them, and in lossless files.

    python benchmarks/image_bytes.py --streams digits shapes folder:cifar10,part=2/2

of images drawn from their training images: PNG, optimised, and WebP, lossless.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from io import BytesIO
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from PIL import Image

from avalanche_clts._support.files import write_text
from avalanche_clts.images.avalanche import raw_images
from avalanche_clts.streams.named import parse_stream

FORMATS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG", "optimize": True},
    "webp": {"format": "WebP", "lossless": True, "quality": 100, "method": 6},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes of streams' images, raw and in lossless files.")
    parser.add_argument("--streams", nargs="+", default=["digits", "shapes"])
    parser.add_argument("--images", type=int, default=2000, help="of each stream, drawn from its training images")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/image-bytes"))
    arguments = parser.parse_args()
    measured = {stream: measure(stream, arguments.images) for stream in arguments.streams}
    command = "python benchmarks/image_bytes.py " + shlex.join(sys.argv[1:])
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out / "bytes.json", json.dumps({"command": command, "streams": measured}, indent=1))
    for stream, means in measured.items():
        print(stream, " ".join(f"{name} {value:,.0f}" for name, value in means.items()))


def measure(stream: str, num_images: int) -> dict[str, float]:
    """Mean bytes of an image of the stream, by format."""
    datasets = [experience.dataset for experience in parse_stream(stream).build(0).train_stream]
    everything = [(dataset, i) for dataset in datasets for i in range(len(dataset))]
    drawn = Random(0).sample(everything, min(num_images, len(everything)))
    images = [raw_images(dataset, [i])[0] for dataset, i in drawn]
    sizes = {name: fmean(file_bytes(image, options) for image in images) for name, options in FORMATS.items()}
    return {"images": len(images), "raw": fmean(len(image.tobytes()) for image in images)} | sizes


def file_bytes(image: Image.Image, options: dict[str, Any]) -> int:
    buffer = BytesIO()
    image.save(buffer, **options)
    return buffer.tell()


if __name__ == "__main__":
    main()
