"""A stream's normalisation, read off its images: some networks must see values in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from .avalanche import raw_images

_IMAGES = 64  # that are looked at, at most
_CLOSE = 2e-3  # values nearer than this are the same: half a step of 8 bits, to which an image of a tensor is rounded


@dataclass(frozen=True)
class Normalisation:
    """What a stream's evaluation transform does to values in [0, 1].

    **Arguments:**

    - deviation, mean: of each channel, `(channels, 1, 1)`. None: nothing is done.
    """

    deviation: Tensor | None = None
    mean: Tensor | None = None

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


def measure_normalisation(dataset: AvalancheDataset) -> Normalisation:
    """The normalisation of a data set, found by comparing images before and after its evaluation transform.

    Raises `ValueError` if that transform does anything else.
    """
    indices = torch.linspace(0, len(dataset) - 1, min(_IMAGES, len(dataset))).long().tolist()
    before = torch.stack([to_tensor(image) for image in raw_images(dataset, indices)])
    after = torch.stack([dataset.eval()[i][0] for i in indices])
    error = ValueError(
        "the evaluation transform of this stream does more than normalise, so that values in [0, 1] cannot be had of "
        "what it yields; use no backbone, view 'input', and do not ask the captioner"
    )
    if before.shape != after.shape:
        raise error
    if torch.allclose(before, after, atol=_CLOSE):
        return Normalisation()
    flat_before, flat_after = (x.transpose(0, 1).flatten(1).double() for x in (before, after))
    # before = deviation * after + mean, channel by channel
    lines = torch.linalg.lstsq(torch.stack([flat_after, torch.ones_like(flat_after)], dim=2), flat_before[..., None])
    deviation, mean = (lines.solution[:, i, :, None].float() for i in (0, 1))
    found = Normalisation(deviation, mean)
    if not torch.allclose(found.undone(after), before, atol=_CLOSE):
        raise error
    return found
