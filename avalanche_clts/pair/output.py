"""A pair's output, checked where it arrives: as many texts as images, as many images as prompts, of the right kind."""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image

from .abilities import SizedGenerator, generate_at
from .captioners import Captioner
from .generators import Generator
from .rgb import as_list, rgb_images


def checked_captions(
    captioner: Captioner, images: Sequence[Image], class_names: Sequence[str] | None = None
) -> list[str]:
    """The captioner's captions of the images; an iterator's are taken as a list.

    Raises `TypeError` for what are not texts, and `ValueError` for too few or too many; the message names the
    captioner's class.
    """
    source = f"{type(captioner).__name__}.caption"
    wanted = f"it must be a list of {len(images)} texts, one for each image"
    made = captioner.caption(images) if class_names is None else captioner.caption(images, class_names)
    texts = as_list(source, made, len(images), wanted)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{source} returned as number {number} of {len(images)} {text!r:.60}; {wanted}")
    return [str(text) for text in texts]  # numpy's texts are a kind of their own


def checked_images(
    generator: Generator, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int] | None = None
) -> list[Image]:
    """The generator's images of the prompts, in RGB: what is transparent shows white.

    **Arguments:**

    - size: `(width, height)` in pixels; see `generate_at`. None: the generator's own.

    Raises `TypeError` for what are not PIL images, and `ValueError` for too few, too many, images that cannot be shown
    or are of another size; the message names the generator's class.
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"prompts and seeds must be as many: {len(prompts)} prompts, {len(seeds)} seeds")
    sized = size is not None and isinstance(generator, SizedGenerator)
    source = f"{type(generator).__name__}.{'generate_sized' if sized else 'generate'}"
    images = rgb_images(source, generate_at(generator, prompts, seeds, size), len(prompts))
    for number, image in enumerate(images):
        if size is not None and image.size != size:
            raise ValueError(
                f"{source} returned as number {number} of {len(images)} an image of "
                f"{image.width}x{image.height} pixels; it must be of {size[0]}x{size[1]}"
            )
    return images
