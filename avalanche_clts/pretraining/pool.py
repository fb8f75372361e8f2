"""What a pair learns from, images with captions, and what it is measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..images.formats import ImageFormat, LabelledImages


class Pool(NamedTuple):
    """Training images of a pair: `captions[i]` says what `images[i]` shows, `targets[i]` is its class."""

    images: list[Image.Image]
    captions: list[str]
    targets: list[int]


@dataclass(frozen=True)
class Change:
    """A word that is exchanged in captions, and what that should do to the images.

    **Arguments:**

    - captions: captions with the first word, and the same captions with the second.
    - measure: of images, `(n,)`; it should be larger with the second word.
    - unit: of the measure.
    """

    captions: tuple[Sequence[str], Sequence[str]]
    measure: Callable[[list[Image.Image]], Tensor]
    unit: str


@dataclass(frozen=True)
class Domain:
    """A kind of images that a pair learns, and real images of it that the pair never sees.

    **Arguments:**

    - class_names: by class id; a caption names its image's class by one of them.
    - pool: what the pair learns from.
    - held_out: real images that are not in the pool, to train on and to test on, for the classifiers that judge the
        pair.
    - format: of real images, which generated ones are brought to.
    - num_generated: images generated for the classifiers.
    - changes: words to exchange, by a name such as "thin -> thick: stroke".
    - prefix: how captions begin where the class is known, as `BlipCaptioner` takes it.
    """

    name: str
    class_names: Sequence[str]
    pool: Callable[[], Pool]
    held_out: Callable[[], tuple[LabelledImages, LabelledImages]]
    format: ImageFormat
    num_generated: int = 1000
    changes: Mapping[str, Change] = field(default_factory=dict)
    prefix: str | None = None


def joined(pools: Sequence[Pool]) -> Pool:
    """One pool of all their images; targets are not told apart between pools."""
    return Pool(
        [image for pool in pools for image in pool.images],
        [caption for pool in pools for caption in pool.captions],
        [target for pool in pools for target in pool.targets],
    )


def rgb(images: Sequence[Image.Image]) -> list[Image.Image]:
    """The images in mode RGB, which is what the processors of real checkpoints expect."""
    return [image.convert("RGB") for image in images]


def to_tensor(images: Sequence[Image.Image], side: int) -> Tensor:
    """RGB `(n, 3, side, side)`, uint8: a quarter of the memory that floats would take."""
    resized = [image.resize((side, side), Image.Resampling.LANCZOS) for image in rgb(images)]
    return torch.from_numpy(np.stack([np.asarray(image) for image in resized])).permute(0, 3, 1, 2)


def pixels(images: Tensor) -> Tensor:
    """uint8 to [-1, 1]."""
    return images / 127.5 - 1
