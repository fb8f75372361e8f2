"""Whether a stream's transforms make the same of a regenerated image as of a real one.

Transforms are given a real image as its data set has it, and a regenerated one as a viewer would show it. These differ
where an image is to be turned as its EXIF data say, is transparent, or has a palette; or where parts of an experience
have transforms of their own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from avalanche.benchmarks.utils import AvalancheDataset, TransformGroups
from PIL import Image
from PIL.ExifTags import Base
from torch import Tensor

from .avalanche import (
    as_stream_dataset,
    class_ids,
    has_own_transforms,
    raw_images,
    sample_layout,
    untransformed_images,
)
from .files import GREY_MODES
from .formats import ImageFormat, common_format, format_of

_TRIED = 8  # images of a kind that go through the transforms, at most
_CLOSE = 0.05  # of the range of values: what two images differ in on average and yet are the same


class _Kind(NamedTuple):
    """What sets an image apart from one that is regenerated."""

    mode: str
    orientation: int = 1  # of its EXIF data; 1 is upright
    transparent: bool = False
    apart: bool = False  # behind other transforms than most


def consistent_format(
    dataset: AvalancheDataset, transforms: TransformGroups, *, also: Sequence[int] = ()
) -> ImageFormat:
    """The format of a data set's images, read off a few hundred of them, where `transforms` make the same kind of
    tensor, and much the same picture, of an image restored to it.

    **Arguments:**

    - transforms: of the data set, which regenerated images go through.
    - also: indices of samples to look at beside those that are evenly spaced.

    Raises `TypeError` if the samples are not images, `ValueError` if they are tensors out of range, or if `transforms`
    make something else of restored images than of real ones.
    """
    formats: list[ImageFormat] = []
    kinds: dict[_Kind, list[int]] = {}
    apart = has_own_transforms(dataset)
    for index, sample in untransformed_images(dataset, also=also):
        formats.append(format_of(sample))
        if isinstance(sample, Image.Image) or apart(index):
            of_kind = kinds.setdefault(_kind(sample, apart(index)), [])
            of_kind.extend([index] if len(of_kind) < _TRIED else [])
    format = common_format(formats)
    for kind, indices in kinds.items():
        if kind not in (_Kind("L"), _Kind("RGB")) or kind.mode != format.mode:
            _require_same(dataset, indices, kind, format, transforms)
    return format


def _kind(image: Any, apart: bool) -> _Kind:
    if not isinstance(image, Image.Image):
        return _Kind("a tensor", apart=apart)
    orientation = image.getexif().get(Base.Orientation, 1)
    return _Kind(image.mode, orientation if orientation in range(2, 9) else 1, _is_transparent(image), apart)


def _is_transparent(image: Image.Image) -> bool:
    """Whether anything shows through an image."""
    if image.mode.startswith("I") or not image.has_transparency_data:
        return False
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    return bool(np.asarray(image.convert("RGBA").getchannel("A")).min() < 255)


def _require_same(
    dataset: AvalancheDataset, indices: Sequence[int], kind: _Kind, format: ImageFormat, transforms: TransformGroups
) -> None:
    """Raise `ValueError` if the transforms make something else of the images at `indices` than of restored ones."""
    shown = raw_images(dataset, indices)
    with same_draws():  # where transforms may change targets, samples are made to see these
        classes, layout = class_ids(dataset, indices), sample_layout(dataset)
    for group in ("train", "eval"):
        transformed = dataset.with_transforms(group)
        real = [_yielded(transformed, i) for i in indices]
        span = max((float(x.max()) - float(x.min()) for x in real if x is not None), default=0.0)
        for i, x, image, target in zip(indices, real, shown, classes, strict=True):
            if x is None:  # no tensor: it is for the strategy to say what it makes of that
                continue
            own_size = replace(format, size=image.size)
            restored = as_stream_dataset([image], [target], [0], format=own_size, transforms=transforms, layout=layout)
            try:
                y = _yielded(restored.with_transforms(group), 0)
            except Exception as error:  # transforms raise whatever they stumble over
                raise _refusal(kind, format, f"the transforms fail on a regenerated one ({error})") from error
            if kind.mode.startswith("I") and not x.is_floating_point():
                raise _refusal(
                    kind, format, f"the transforms make {x.dtype} of them, which networks are not trained on"
                )
            if y is None or (x.shape, x.dtype) != (y.shape, y.dtype):
                made = f"{_described(x)} of a real one, and {_described(y)} of a regenerated one"
                raise _refusal(kind, format, f"the transforms make {made}")
            apart = float((x.double() - y.double()).abs().mean())
            if apart > _CLOSE * span and _repeats(transformed, i, x):
                differ = f"differ by {apart:.2g} on average, of a range of {span:.2g}"
                raise _refusal(kind, format, f"what the transforms make of a real and a regenerated one {differ}")


def _repeats(dataset: AvalancheDataset, index: int, x: Tensor) -> bool:
    """Whether a sample is the same again, or its transforms draw from a generator of their own."""
    again = _yielded(dataset, index)
    return again is not None and torch.equal(x, again)


def _refusal(kind: _Kind, format: ImageFormat, difference: str) -> ValueError:
    if kind.apart and kind == _Kind(kind.mode, apart=True) and kind.mode in ("a tensor", "L", "RGB"):
        return ValueError(
            f"parts of an experience of this stream have transforms of their own, and {difference}; give all of them "
            "the same transforms, or make each an experience of its own"
        )
    first = "first in the transforms, or in the data set"
    native = "L" if format.mode in GREY_MODES else "RGB"
    if kind.orientation != 1:
        what = f"carry an EXIF orientation ({kind.orientation}) that the transforms do not apply"
        remedy = f"apply PIL.ImageOps.exif_transpose {first}"
    elif kind.transparent:
        what = f"of mode {kind.mode} are transparent, and captioned as they look on white"
        layer = "image.convert('LA').convert('RGBA')" if kind.mode == "La" else "image.convert('RGBA')"
        on_white = f"Image.alpha_composite(Image.new('RGBA', image.size, 'white'), {layer}).convert('{native}')"
        remedy = f"composite them onto white {first}: `lambda image: {on_white}`"
    elif kind.mode.startswith("I"):
        what, remedy = f"are of mode {kind.mode}", "bring them to 8 bits a pixel (mode L) in the data set"
    else:
        what, remedy = f"are of mode {kind.mode}", f"apply `lambda image: image.convert('{native}')` {first}"
    return ValueError(f"images of this stream {what}, and {difference}; {remedy}")


def _described(x: Tensor | None) -> str:
    return "no tensor" if x is None else f"{tuple(x.shape)} of {x.dtype}"


def _yielded(dataset: AvalancheDataset, index: int) -> Tensor | None:
    """What a data set makes of an image, with the same random draws every time; None where it is no tensor."""
    with same_draws():
        x = dataset[index][0]
    if isinstance(x, np.ndarray):
        x = torch.from_numpy(x)
    return x if isinstance(x, Tensor) and x.numel() > 0 else None


@contextmanager
def same_draws() -> Iterator[None]:
    """Whatever is drawn at random herein is the same each time, and changes nothing that is drawn later."""
    before, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(numpys)
