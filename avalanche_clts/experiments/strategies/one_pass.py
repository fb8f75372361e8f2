"""Strategies without gradients: a model that looks at each sample of an experience once, or at none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from ..rows.row import Setup


class OnePassModel(nn.Module):
    """A classifier that is told an experience and knows it at once."""

    @abstractmethod
    def learn(self, experience: Any, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        """Learn an experience.

        **Arguments:**

        - experience: Avalanche's.
        - batches: of its samples, what the model sees and their classes, on the model's device.
        """

    def kept_bytes(self) -> Mapping[str, int]:
        """What it keeps beside its parameters and buffers, by kind; see `footprint`."""
        return {}


class OnePass(SupervisedTemplate):
    """Avalanche's training of a `OnePassModel`: one epoch, no optimizer, and nothing to measure while it goes on."""

    model: OnePassModel

    def kept_bytes(self) -> Mapping[str, int]:
        """What the model keeps beside its parameters and buffers."""
        return self.model.kept_bytes()

    def make_optimizer(self, *args: Any, **kwargs: Any) -> None:
        """There is nothing to optimise."""

    def training_epoch(self, **kwargs: Any) -> None:
        """Show the model every sample once."""
        self.model.eval()
        with torch.no_grad():
            self.model.learn(self.experience, self._batches())

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y, *_ in self.dataloader:
            yield x.to(self.device), y.to(self.device)


class FeatureStatistics(OnePassModel):
    """A classifier in closed form on the features of a frozen backbone.

    What it keeps is in its buffers. `counts` is how many samples of each class it has seen.

    **Arguments:**

    - backbone: from what the stream yields to features.
    - num_classes: of the stream.
    """

    counts: Tensor

    def __init__(self, backbone: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("counts", torch.zeros(num_classes))

    @abstractmethod
    def add(self, features: Tensor, targets: Tensor) -> None:
        """Learn from the features `(n, width)` of samples of these classes, `(n,)`."""

    @abstractmethod
    def scores(self, features: Tensor) -> Tensor:
        """`(n, width)` to `(n, num_classes)`, whatever the number for a class that was not seen."""

    def learn(self, experience: Any, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        """Add every batch to the statistics."""
        for x, y in batches:
            self.add(self.backbone(x), y)
            self.counts += torch.bincount(y, minlength=len(self.counts))

    def forward(self, x: Tensor) -> Tensor:
        """Scores of classes, `(n, num_classes)`; the least of all for a class that was not seen."""
        scores = self.scores(self.backbone(x))
        return scores.masked_fill(self.counts == 0, torch.finfo(scores.dtype).min)


def one_pass(setup: Setup, model: OnePassModel) -> OnePass:
    """The strategy that shows the model each experience, as the setup says."""
    common = setup.common(nn.Linear(1, 1))  # for all but model, optimizer and epochs, which are not everyone's
    return OnePass(**{**common, "model": model, "optimizer": None, "train_epochs": 1})


def frozen(setup: Setup) -> tuple[nn.Module, int]:
    """The setup's frozen backbone, and how wide its features are.

    Raises `ValueError` where there is none.
    """
    if setup.backbone is None:
        raise ValueError("this strategy is made of a frozen backbone's features; give one with backbone")
    return setup.backbone, setup.num_features
