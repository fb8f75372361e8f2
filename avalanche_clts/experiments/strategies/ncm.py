"""Nearest class mean on frozen features (Mensink et al., TPAMI 2013)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .one_pass import FeatureStatistics


class NearestClassMean(FeatureStatistics):
    """The class whose mean points most nearly where the features do: the largest cosine.

    Avalanche's `NCMClassifier` gives classes that it has not seen a mean of zeros, which may be the nearest one, and
    weighs the means of a class that comes again by halves, however many samples each is of.

    **Arguments:** those of `FeatureStatistics`, and

    - width: of the features.
    """

    means: Tensor

    def __init__(self, backbone: nn.Module, width: int, num_classes: int) -> None:
        super().__init__(backbone, num_classes)
        self.register_buffer("means", torch.zeros(num_classes, width))

    def add(self, features: Tensor, targets: Tensor) -> None:
        """Move the means."""
        add_to_means(self.means, self.counts, F.normalize(features), targets)

    def scores(self, features: Tensor) -> Tensor:
        """The cosines."""
        return F.normalize(features) @ F.normalize(self.means).T


def add_to_means(means: Tensor, counts: Tensor, features: Tensor, targets: Tensor) -> None:
    """Bring samples into the means of their classes, `(num_classes, width)`, which were of `counts` samples so far."""
    new = torch.bincount(targets, minlength=len(means)).to(means)
    sums = torch.zeros_like(means).index_add_(0, targets, features)
    seen = new > 0
    means[seen] += (sums[seen] - new[seen, None] * means[seen]) / (counts + new)[seen, None]
