"""Image files, and what a person sees of them."""

from __future__ import annotations

import os
import struct

import numpy as np
from PIL import Image, ImageOps

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
# What Pillow raises of damaged files, depending on the format and on the damage.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, struct.error, MemoryError)


def as_seen(image: Image.Image) -> Image.Image:
    """The image as a viewer shows it, in mode "L" or "RGB": turned upright as its EXIF data say, transparency on white,
    16 bits of grey brought to 8.

    Raises `ValueError` for pixels that are floating-point numbers, of no known range.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "F":
        raise ValueError("an image whose pixels are floating-point numbers, of no known range; convert it first")
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 2**16 - 1) >> 8).astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        grey = image.mode in ("LA", "La")
        layer = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, layer).convert("L" if grey else "RGB")
    return image.convert("L" if image.mode == "1" else "RGB")


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The image in a file, as `as_seen` shows it.

    Raises `ValueError`, naming the file, if Pillow cannot read it, whatever is wrong with it.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return as_seen(image).copy()
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path} is not an image that Pillow can read ({error or type(error).__name__}); remove or replace it"
        ) from None


def is_grey(path: str | os.PathLike[str]) -> bool:
    """Whether `open_image` gives an image without colour, by the file's header alone.

    True of a file that is no image: opening it is what says so.
    """
    try:
        with Image.open(path) as image:
            return image.mode in GREY_MODES
    except (*_DAMAGE, Image.DecompressionBombError):
        return True
