"""What a generator hands out: checked, turned into RGB as a viewer would show it, and brought to a size."""

from __future__ import annotations

from collections.abc import Mapping, Set
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image


def rgb_images(source: str, made: Any, count: int) -> list[Image.Image]:
    """The images in RGB.

    What is transparent shows white; 16 bits of grey become 8.

    **Arguments:**

    - source: what made them, for the message, such as "DiffusionGenerator.generate".
    - made: what it handed out; an iterator will do.
    - count: of the prompts.

    Raises `TypeError` for what are not PIL images, and `ValueError` for too few, too many, and images that cannot be
    shown.
    """
    wanted = f"it must be a list of {count} PIL images, one for each prompt"
    images = as_list(source, made, count, wanted)
    shown = []
    for number, image in enumerate(images):
        what = f"{source} returned as number {number} of {count}"
        if not isinstance(image, Image.Image):
            raise TypeError(f"{what} {_described(image)}; {wanted}")
        if 0 in image.size:
            raise ValueError(f"{what} an image of {image.width}x{image.height} pixels; {wanted}, none of them empty")
        try:
            shown.append(to_rgb(image))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{what} an image of mode {image.mode}, which cannot be shown ({error}); {wanted}, in RGB"
            ) from None
    return shown


def as_list(source: str, made: Any, count: int, wanted: str) -> list[Any]:
    """What was made, as a list of `count`.

    **Arguments:**

    - source: what made it, for the message, such as "BlipCaptioner.caption".
    - wanted: what would have been right, for the message.

    Raises `TypeError` for what is no sequence or iterator, and `ValueError` for too few or too many.
    """
    try:
        if isinstance(made, (str, bytes, Mapping, Set)):
            raise TypeError
        iterator = iter(made)
    except TypeError:
        raise TypeError(f"{source} returned {_described(made)}; {wanted}") from None
    found = list(islice(iterator, count + 1))  # an iterator may have no end
    if len(found) != count:
        try:
            number = str(len(made))
        except TypeError:
            number = str(len(found)) if len(found) < count else f"more than {count}"
        raise ValueError(f"{source} returned {number} for {count}; {wanted}")
    return found


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB, itself where it is. Raises `OSError` or `ValueError` where Pillow cannot do that."""
    image.load()
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point numbers, of no known range")
    if image.mode.startswith("I"):  # Pillow would cut off what is above 255
        image = Image.fromarray((np.asarray(image).clip(0, 2**16 - 1) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def to_size(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image in a size, `(width, height)` in pixels, itself where it has it."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _described(thing: Any) -> str:
    if thing is None:
        return "None"
    name = type(thing).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
