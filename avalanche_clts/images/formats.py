"""What a stream's images are like before its transforms, and how a generated image becomes like them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .files import GREY_MODES, as_seen

Kind = Literal["pil", "numpy", "uint8", "float"]
_REMEDY = (
    "build the benchmark from PIL images, uint8 tensors or tensors with values in [0, 1], "
    "and give normalisation and augmentation as its train_transform and eval_transform"
)


class LabelledImages(NamedTuple):
    """Images with their classes: `images[i]` shows class `targets[i]`."""

    images: list[Image.Image]
    targets: list[int]


@dataclass(frozen=True)
class ImageFormat:
    """How a stream hands out its images before its transforms.

    **Arguments:**

    - kind: "pil"; "numpy", uint8 arrays `(h, w)` or `(h, w, channels)`; "uint8", tensors with values 0 to 255; "float",
        tensors with values in [0, 1].
    - size: `(width, height)` in pixels.
    - mode: of Pillow: "L" (grey), "RGB", or another that a stream hands out.
    - dtype: of tensors, such as "float32".
    - has_channels: whether arrays and tensors have a dimension of channels; grey ones need none.
    """

    kind: Kind
    size: tuple[int, int]
    mode: str
    dtype: str = "float32"
    has_channels: bool = True

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB, as many as any other mode has."""
        return len(Image.new(self.mode, (1, 1)).getbands())

    @property
    def nbytes(self) -> int:
        """Bytes of one image as raw uint8: height x width x channels."""
        return self.size[0] * self.size[1] * self.channels

    def restore(self, image: Image.Image) -> Any:
        """A generated image as the stream would have handed it out: native size, mode and kind."""
        seen = image.convert("L" if self.mode in GREY_MODES else "RGB").resize(self.size, Image.Resampling.LANCZOS)
        native = _in_mode(seen, self.mode)
        if self.kind == "pil":
            return native
        pixels = np.array(native)
        if pixels.ndim == 2 and self.has_channels:
            pixels = pixels[..., None]
        if self.kind == "numpy":
            return pixels
        tensor = torch.from_numpy(pixels)
        channels_first = tensor.permute(2, 0, 1) if self.has_channels else tensor
        if self.kind == "uint8":
            return channels_first
        return channels_first.to(getattr(torch, self.dtype)) / 255


def format_of(sample: Any) -> ImageFormat:
    """The format of one untransformed image.

    Raises `TypeError` for what is no image, `ValueError` for tensors out of range.
    """
    image = to_pil(sample)
    if isinstance(sample, Image.Image):
        # Another image would need another palette, so that indices into one say nothing.
        return ImageFormat("pil", image.size, image.mode if sample.mode in ("P", "PA") else sample.mode)
    shape = tuple(sample.shape)
    if isinstance(sample, np.ndarray):
        return ImageFormat("numpy", image.size, image.mode, has_channels=len(shape) == 3)
    dtype = str(sample.dtype).removeprefix("torch.")
    kind: Kind = "uint8" if sample.dtype == torch.uint8 else "float"
    return ImageFormat(kind, image.size, image.mode, dtype if kind == "float" else "float32", len(shape) == 3)


def common_format(formats: Iterable[ImageFormat]) -> ImageFormat:
    """One format for images of several: "L" or, if any is coloured, "RGB" where modes differ; the commonest size, or
    else the median of widths and of heights where no size is that of most."""
    counted = Counter(formats)
    first = next(iter(counted))
    if len(counted) == 1:
        return first
    coloured = {f.mode for f in counted if f.mode not in GREY_MODES}
    sizes: Counter[tuple[int, int]] = Counter()
    for each, count in counted.items():
        sizes[each.size] += count
    size, most = sizes.most_common(1)[0]
    if 2 * most <= sizes.total():
        size = _median([s[0] for s in sizes.elements()]), _median([s[1] for s in sizes.elements()])
    modes = coloured or {f.mode for f in counted}
    several = "RGB" if coloured else "L"
    return replace(first, size=size, mode=modes.pop() if len(modes) == 1 else several)


def _median(lengths: Sequence[int]) -> int:
    return round(median(lengths))


def to_pil(sample: Any) -> Image.Image:
    """A sample as a person would see it, "L" or "RGB": of a PIL image, a uint8 array `(h, w[, 1 or 3])`, or a tensor
    `([1 or 3,] h, w)`.

    Raises `TypeError` for anything else, and `ValueError` for floats outside [0, 1]: those were normalised, and what
    they looked like before is not known.
    """
    if isinstance(sample, Image.Image):
        return as_seen(sample)
    if isinstance(sample, np.ndarray) and sample.dtype == np.uint8 and _is_image(sample.shape, channels=-1):
        return Image.fromarray(sample[..., 0] if sample.ndim == 3 and sample.shape[-1] == 1 else sample)
    if not isinstance(sample, Tensor) or not _is_image(tuple(sample.shape), channels=0):
        shape = f" of shape {tuple(sample.shape)}" if hasattr(sample, "shape") else ""
        raise TypeError(f"the samples of this stream are not images but {type(sample).__name__}{shape}; {_REMEDY}")
    if sample.dtype != torch.uint8:
        low, high = float(sample.min()), float(sample.max())
        if not (sample.is_floating_point() and low >= 0 and high <= 1):
            raise ValueError(
                f"the samples of this stream are tensors of {sample.dtype} with values from {low:.3g} to {high:.3g}, "
                f"and no untransformed image stands behind them; {_REMEDY}"
            )
        sample = (sample * 255).round().to(torch.uint8)
    pixels = (sample.permute(1, 2, 0) if sample.ndim == 3 else sample).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """An image of mode "L" or "RGB" in another mode of as much colour."""
    if mode == "1":
        return image.point(lambda value: 255 * (value >= 128), "1")  # convert() would dither
    if mode.startswith("I"):
        pixels = np.asarray(image).astype(np.uint16) * 257
        if mode == "I":
            return Image.fromarray(pixels.astype(np.int32))
        order = {"B": ">", "N": "="}.get(mode[-1], "<")
        return Image.frombytes(mode, image.size, pixels.astype(f"{order}u2").tobytes())
    # Premultiplied modes are reached by way of their plain ones only.
    return image.convert({"La": "LA", "RGBa": "RGBA"}.get(mode, mode)).convert(mode)


def _is_image(shape: tuple[int, ...], *, channels: int) -> bool:
    """Whether a shape is that of an image; a plain matrix is one from 2x2 pixels on."""
    return (len(shape) == 2 and min(shape) > 1) or (len(shape) == 3 and shape[channels] in (1, 3))
