"""The pair's captioner alone, asked for the class: nothing is learnt, and nothing kept but class names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...asking import AskedCaptioner
from ...memory.mentions import Names
from .one_pass import OnePassModel


class AskedModel(OnePassModel):
    """The class that a captioner is asked for, among those seen so far.

    **Arguments:**

    - asked: the captioner.
    - num_classes: of the stream.
    """

    def __init__(self, asked: AskedCaptioner, num_classes: int) -> None:
        super().__init__()
        self.asked = asked
        self.asked_captioner = asked.captioner
        self.num_classes = num_classes

    def learn(self, experience: Any, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        """Hear the names of the classes; see `AskedCaptioner.hear`."""
        self.asked.hear(experience)

    def kept_bytes(self) -> Mapping[str, int]:
        """The names, as text."""
        return self.asked.kept_bytes()

    def forward(self, x: Tensor) -> Tensor:
        """Scores of classes, `(n, num_classes)`; the least of all for a class that was not seen."""
        output = torch.full((len(x), self.num_classes), torch.finfo(torch.float32).min, device=x.device)
        if self.asked.names:
            output[:, list(self.asked.names)] = self.asked.scores(x)
        return output


class NamedClass(AskedCaptioner):
    """The class that the captioner's caption names first: the first class seen where it names none."""

    def scores_of(self, images: Mapping[bytes, Image.Image], names: Sequence[str]) -> Tensor:
        """1 for the class named, 0 for the others."""
        known = Names(names)
        column = {known.key(name): i for i, name in enumerate(names)}
        scores = torch.zeros(len(images), len(names))
        for row, caption in zip(scores, self.captions_of(images), strict=True):
            mentions = known.mentions(caption)
            if mentions:
                row[column[mentions[0].name]] = 1.0
        return scores
