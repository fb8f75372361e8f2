"""Shapes for the pair to learn from: drawn, and captioned by what was drawn."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..images.formats import ImageFormat
from ..streams import embedded_shapes as shapes
from ..streams.embedded_shapes import CLASS_NAMES, Look
from .pool import Change, Domain, Pool

_PLAIN = Look(colour=0, background=0, size=1, tilt=1, texture=0)
_LONG = ("key", "fish", "arrow")  # shapes with an axis that tilts


def shapes_domain(count: int = 80_000) -> Domain:
    """The domain of `split_shapes`, with `count` images to learn from."""
    return Domain(
        name="shapes",
        class_names=CLASS_NAMES,
        pool=partial(shape_pool, count),
        held_out=shapes.stream_shapes,
        format=ImageFormat("pil", (shapes.SIDE, shapes.SIDE), "RGB"),
        num_generated=4000,  # as many as the stream has to train on
        changes={
            "small -> large: size": Change(
                (_captions(size=0), _captions(size=2)), lambda images: shape_areas(images).sqrt(), "pixels"
            ),
            "blue -> red: redness": Change((_captions(colour=5), _captions(colour=0)), redness, "of 1"),
            "black -> white: background": Change((_captions(background=0), _captions(background=1)), borders, "of 1"),
            "tilted left -> right: tilt": Change(
                (_captions(_LONG, tilt=0), _captions(_LONG, tilt=2)), tilts, "radians"
            ),
        },
    )


def shape_pool(count: int) -> Pool:
    """`count` images of the pair's own seeds, classes in equal parts, captioned such as
    "a small striped red star tilted left on navy"."""
    targets = [i % len(CLASS_NAMES) for i in range(count)]
    drawn = [shapes.draw(target, shapes.PAIR_SEED + i) for i, target in enumerate(targets)]
    captions = [shapes.describe(target, look) for target, (_, look) in zip(targets, drawn, strict=True)]
    return Pool([image for image, _ in drawn], captions, targets)


def shape_areas(images: list[Image.Image]) -> Tensor:
    """Pixels that differ from the background, `(n,)`."""
    return _masks(images).sum((1, 2))


def redness(images: list[Image.Image]) -> Tensor:
    """Red minus blue of the shape's pixels, in [-1, 1], `(n,)`."""
    pixels, masks = _pixels(images), _masks(images)
    return ((pixels[..., 0] - pixels[..., 2]) * masks).sum((1, 2)) / masks.sum((1, 2)).clamp_min(1)


def borders(images: list[Image.Image]) -> Tensor:
    """Brightness of the images' border, in [0, 1], `(n,)`."""
    return _border(_pixels(images)).mean((1, 2))


def tilts(images: list[Image.Image]) -> Tensor:
    """Angle of the shape's long axis, in radians, positive for clockwise, `(n,)`."""
    masks = _masks(images)
    mass = masks.sum((1, 2)).clamp_min(1)
    axis = torch.arange(masks.shape[-1], dtype=masks.dtype)
    x, y = axis[None, None, :], axis[None, :, None]
    cx, cy = (masks * x).sum((1, 2)) / mass, (masks * y).sum((1, 2)) / mass
    x, y = x - cx[:, None, None], y - cy[:, None, None]
    xx, yy, xy = ((masks * m).sum((1, 2)) / mass for m in (x * x, y * y, x * y))
    return 0.5 * torch.atan2(2 * xy, xx - yy)  # image rows run downwards


def _captions(names: tuple[str, ...] = CLASS_NAMES, *, copies: int = 5, **changed: int) -> list[str]:
    """Captions of the named shapes on a middling background, with something changed."""
    look = {**vars(_PLAIN), "background": 2, **changed}
    return [shapes.describe(CLASS_NAMES.index(name), Look(**look)) for name, _ in product(names, range(copies))]


def _pixels(images: list[Image.Image]) -> Tensor:
    """`(n, h, w, 3)` in [0, 1]."""
    return torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images])).float() / 255


def _border(pixels: Tensor) -> Tensor:
    """The pixels of the outermost ring, `(n, ring, 3)`."""
    top, bottom, left, right = pixels[:, 0], pixels[:, -1], pixels[:, 1:-1, 0], pixels[:, 1:-1, -1]
    return torch.cat([top, bottom, left, right], dim=1)


def _masks(images: list[Image.Image]) -> Tensor:
    """1 where a pixel's colour is far from the border's, `(n, h, w)`."""
    pixels = _pixels(images)
    background = _border(pixels).median(dim=1).values
    return ((pixels - background[:, None, None]).abs().amax(3) > 0.25).float()
