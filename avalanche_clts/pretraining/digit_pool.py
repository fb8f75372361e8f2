"""8x8 digits for the pair to learn from: 600 real ones, augmented, each captioned by what is measured on it."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..images.formats import ImageFormat
from ..streams.embedded_digits import CLASS_NAMES, pair_digits, stream_digits
from .pool import Change, Domain, Pool

SIDE = 32  # pixels at which digits are deformed and measured
_MEASURES = ("thickness", "slant", "size")
_CHANGES = {
    "thin -> thick: stroke": ("thickness", "pixels"),
    "left -> right: slant": ("slant", "(tangent)"),
    "small -> large: size": ("size", "pixels"),
}


def digits_domain(count: int = 40_000) -> Domain:
    """The domain of `split_digits`, with `count` augmented images to learn from."""
    return Domain(
        name="digits",
        class_names=CLASS_NAMES,
        pool=partial(digit_pool, count),
        held_out=stream_digits,
        format=ImageFormat("pil", (8, 8), "L"),
        changes={name: _change(measured, unit) for name, (measured, unit) in _CHANGES.items()},
    )


def _change(measured: str, unit: str, *, copies: int = 10) -> Change:
    low, high = (
        [describe(label, **{measured: third}) for label, _ in product(range(10), range(copies))] for third in (0, 2)
    )
    return Change((low, high), lambda images: measure(to_tensor(images))[measured], unit)


def digit_pool(count: int, *, seed: int = 0) -> Pool:
    """`count` augmented 8x8 digits, classes in equal parts, with captions such as
    "a large thin handwritten seven slanted to the right".

    Adjectives are relative to the class: the thinnest third of the sevens is "thin", the thickest "thick".
    """
    originals = pair_digits()
    generator = torch.Generator().manual_seed(seed)
    targets = torch.tensor(originals.targets)
    by_class = [torch.nonzero(targets == c).flatten() for c in range(10)]
    labels = torch.arange(count) % 10
    picks = torch.stack([by_class[c][torch.randint(len(by_class[c]), (1,), generator=generator)[0]] for c in labels])
    small = _deform(to_tensor(originals.images)[picks], generator)
    images = [Image.fromarray(p.numpy()) for p in (small * 16).round().mul(255 / 16).round().to(torch.uint8)]
    measures = measure(to_tensor(images))
    thirds = {
        name: [torch.quantile(values[labels == c], torch.tensor([1 / 3, 2 / 3])) for c in range(10)]
        for name, values in measures.items()
    }
    captions = []
    for i, label in enumerate(labels.tolist()):
        thickness, slant, size = (
            int((measures[name][i] > thirds[name][label]).sum()) for name in _MEASURES
        )  # 0, 1, 2: lower, middle, upper third
        captions.append(describe(label, thickness=thickness, slant=slant, size=size))
    return Pool(images, captions, labels.tolist())


def describe(label: int, *, thickness: int = 1, slant: int = 1, size: int = 1) -> str:
    """The caption of digit `label` whose measures lie in the given thirds (0 lower, 1 middle, 2 upper) of its class."""
    words = ["a", ("small", "", "large")[size], ("thin", "", "thick")[thickness], "handwritten", CLASS_NAMES[label]]
    words.append(("slanted to the left", "upright", "slanted to the right")[slant])
    return " ".join(word for word in words if word)


def measure(images: Tensor) -> dict[str, Tensor]:
    """Stroke thickness (pixels), slant (tangent of the angle, positive to the right) and size (root mean square
    distance of the ink from its centre, pixels) of white-on-black digits.

    **Arguments:**

    - images: `(n, 32, 32)`, values in [0, 1].
    """
    ink = images.double().clamp(0, 1)
    mass = ink.sum((1, 2)).clamp_min(1e-6)
    dy, dx = torch.gradient(F.pad(ink, (1, 1, 1, 1)), dim=(1, 2))
    outline = (dx.square() + dy.square()).sqrt().sum((1, 2)).clamp_min(1e-6)
    axis = torch.arange(ink.shape[-1], dtype=ink.dtype)
    x, y = axis[None, None, :], axis[None, :, None]
    cx, cy = (ink * x).sum((1, 2)) / mass, (ink * y).sum((1, 2)) / mass
    x, y = x - cx[:, None, None], y - cy[:, None, None]
    var_x, var_y, cov = ((ink * m).sum((1, 2)) / mass for m in (x * x, y * y, x * y))
    return {
        "thickness": (2 * mass / outline).float(),
        "slant": (-cov / var_y.clamp_min(1e-6)).float(),  # image rows run downwards
        "size": (var_x + var_y).sqrt().float(),
    }


def to_tensor(images: list[Image.Image]) -> Tensor:
    """Grey `(n, 32, 32)` in [0, 1], enlarged the way the generator's training images are."""
    enlarged = [image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS) for image in images]
    return torch.from_numpy(np.stack([np.asarray(image) for image in enlarged])).float() / 255


def _deform(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random scale, shear, rotation, shift, elastic bend and stroke thickness; `(n, 32, 32)` to `(n, 8, 8)`."""
    n = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    angle, shear = uniform(-0.12, 0.12), uniform(-0.3, 0.3)
    scale_x, scale_y = 1 / uniform(0.8, 1.08), 1 / uniform(0.8, 1.03)
    cos, sin = angle.cos(), angle.sin()
    # Maps output to input coordinates, both in [-1, 1]: rows of rotation x shear x scale.
    theta = torch.stack(
        [
            torch.stack([scale_x * cos, scale_x * (shear * cos - sin), uniform(-0.06, 0.06)], 1),
            torch.stack([scale_y * sin, scale_y * (shear * sin + cos), uniform(-0.04, 0.04)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [n, 1, SIDE, SIDE], align_corners=False)
    bend = F.interpolate(uniform(-0.07, 0.07, 2, 4, 4), size=(SIDE, SIDE), mode="bicubic", align_corners=False)
    warped = F.grid_sample(images[:, None], grid + bend.permute(0, 2, 3, 1), mode="bicubic", align_corners=False)
    warped = warped.clamp(0, 1)
    dilated, eroded = F.max_pool2d(warped, 3, 1, 1), -F.max_pool2d(-warped, 3, 1, 1)
    weight = uniform(-0.5, 0.7, 1, 1, 1)
    inked = torch.where(weight > 0, warped.lerp(dilated, weight.abs()), warped.lerp(eroded, weight.abs()))
    # Sharpened, then brought to full contrast: the two resamplings above blur, and the stream's digits are not blurred.
    blurred = F.avg_pool2d(F.pad(inked, (2, 2, 2, 2), mode="replicate"), 5, 1)
    small = F.avg_pool2d((inked + 1.5 * (inked - blurred)).clamp(0, 1), SIDE // 8)[:, 0]
    return (1.12 * small / small.amax((1, 2), keepdim=True).clamp_min(0.5)).clamp(0, 1)
