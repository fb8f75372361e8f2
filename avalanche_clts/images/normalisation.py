"""A stream's normalisation, read off its images: some networks must see values in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from .avalanche import as_stream_dataset, image_format, raw_images, sample_layout, stream_transforms

_IMAGES = 64  # that are looked at, at most
_PIXELS = 4096  # of each of them, at least half as many of larger ones
_NARROW = 0.25  # a range of values this small says too little
_CLOSE = 2e-3  # values nearer than this are the same: half a step of 8 bits, to which an image of a tensor is rounded
_REMEDY = "use no backbone, view 'input', and do not ask the captioner"
_MORE = (
    "the evaluation transform of this stream does more than normalise, so that values in [0, 1] cannot be had of what "
    f"it yields; {_REMEDY}"
)


@dataclass(frozen=True)
class Normalisation:
    """What a stream's evaluation transform does to values in [0, 1].

    **Arguments:**

    - deviation, mean: of each channel, `(channels, 1, 1)`. None: nothing is done.
    """

    deviation: Tensor | None = None
    mean: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        """Its numbers, as JSON can hold them."""
        return {name: None if value is None else value.tolist() for name, value in vars(self).items()}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Normalisation:
        """The one that `state_dict` was of."""
        return cls(**{name: None if value is None else torch.tensor(value) for name, value in state.items()})

    def undone(self, x: Tensor) -> Tensor:
        """Values of the stream, `(n, channels, h, w)`, to values in [0, 1]."""
        if self.deviation is None or self.mean is None:
            return x
        return x * self.deviation.to(x) + self.mean.to(x)

    def done(self, x: Tensor) -> Tensor:
        """Values in [0, 1], `(n, channels, h, w)`, to values of the stream."""
        if self.deviation is None or self.mean is None:
            return x
        return (x - self.mean.to(x)) / self.deviation.to(x)


def measure_normalisation(dataset: AvalancheDataset, *, known: Normalisation | None = None) -> Normalisation:
    """The normalisation of a data set, found by comparing images before and after its evaluation transform.

    **Arguments:**

    - known: that of earlier data sets, which this one must have as well.

    Raises `ValueError` if that transform does anything else.
    """
    indices = torch.linspace(0, len(dataset) - 1, min(_IMAGES, len(dataset))).long().tolist()
    before, after = _values(dataset, indices)
    if known is not None:
        if not torch.allclose(_undone(known, after), before, atol=_CLOSE):
            raise ValueError(
                "an evaluation transform of this stream normalises otherwise than that of an earlier experience; give "
                f"all the same, or {_REMEDY}"
            )
        return known
    if torch.allclose(before, after, atol=_CLOSE):
        return Normalisation()
    if bool((before.amax(1) - before.amin(1) < _NARROW).any()):  # no line can be told by a point
        noise = _values_of_noise(dataset)
        before, after = torch.cat([before, noise[0]], dim=1), torch.cat([after, noise[1]], dim=1)
    # before = deviation * after + mean, channel by channel
    sides = torch.stack([after, torch.ones_like(after)], dim=2).double()
    lines = torch.linalg.lstsq(sides, before[..., None].double())
    deviation, mean = (lines.solution[:, i, :, None].float() for i in (0, 1))
    found = Normalisation(deviation, mean)
    if not torch.allclose(_undone(found, after), before, atol=_CLOSE):
        raise ValueError(_MORE)
    return found


def _undone(normalisation: Normalisation, values: Tensor) -> Tensor:
    """`Normalisation.undone` of values without places, `(channels, n)`."""
    return normalisation.undone(values[..., None])[..., 0]


def _values(dataset: AvalancheDataset, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values before and after the evaluation transform, `(channels, n)` each: of large images, some.

    Raises `ValueError` where images have another shape afterwards, or whole numbers.
    """
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    evaluated = dataset.eval()
    for image, i in zip(raw_images(dataset, indices), indices, strict=True):
        before, after = to_tensor(image), evaluated[i][0]
        if not isinstance(after, Tensor) or after.shape != before.shape or not after.is_floating_point():
            raise ValueError(_MORE)
        step = max(1, before[0].numel() // _PIXELS)
        for side, values in zip(sides, (before, after), strict=True):
            side.append(values.float().flatten(1)[:, ::step])
    if len({len(values) for values in sides[0]}) > 1:
        raise ValueError(_MORE)
    return torch.cat(sides[0], dim=1), torch.cat(sides[1], dim=1)


def _values_of_noise(dataset: AvalancheDataset) -> tuple[Tensor, Tensor]:
    """`_values` of an image that has all values in every channel, as if it were one of the stream's."""
    format = image_format(dataset)
    noise = np.random.RandomState(0).randint(0, 256, (*format.size[::-1], 3), dtype=np.uint8)
    transforms = stream_transforms(dataset)
    layout = sample_layout(dataset)
    made = as_stream_dataset([Image.fromarray(noise)], [0], [0], format=format, transforms=transforms, layout=layout)
    return _values(made, [0])
