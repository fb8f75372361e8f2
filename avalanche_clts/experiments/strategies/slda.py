"""Deep streaming linear discriminant analysis on frozen features (Hayes and Kanan, CVPR Workshops 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .one_pass import FeatureStatistics


class StreamingDiscriminants(FeatureStatistics):
    """Class means and one covariance, streamed: what Avalanche's `StreamingLDA` keeps after the same samples in the
    same order, but for rounding.

    Avalanche's own multiplies and stores a covariance for every sample and inverts it for every batch, hours for a few
    thousand features; and its predictions are the strategy's, so that whoever asks its model gets features.

    **Arguments:** those of `FeatureStatistics`, and

    - width: of the features.
    - shrinkage: of the covariance to the identity, 0 to 1.
    """

    means: Tensor
    covariance: Tensor
    _solved: tuple[Tensor, Tensor] | None

    def __init__(self, backbone: nn.Module, width: int, num_classes: int, *, shrinkage: float) -> None:
        super().__init__(backbone, num_classes)
        self.register_buffer("means", torch.zeros(num_classes, width))
        self.register_buffer("covariance", torch.zeros(width, width))
        self.shrinkage = shrinkage
        self._solved = None

    def add(self, features: Tensor, targets: Tensor) -> None:
        """Each sample's deviation is from the mean of its class before it came, as if they came one by one."""
        before = int(self.counts.sum())
        deviations = torch.empty_like(features)
        for target in targets.unique():
            rows = (targets == target).nonzero()[:, 0]
            mine, count = features[rows], self.counts[target]
            sums = torch.cat([self.means[target][None] * count, mine]).cumsum(0)
            counts = count + torch.arange(len(rows) + 1, device=features.device)[:, None]
            means = sums / counts.clamp_min(1)
            deviations[rows] = mine - means[:-1]
            self.means[target] = means[-1]
        seen = before + torch.arange(len(features), device=features.device)
        weights = (seen / (seen + 1))[:, None].to(features)
        scatter = deviations.T @ (weights * deviations)
        self.covariance.mul_(before).add_(scatter).div_(before + len(features))
        self._solved = None

    def scores(self, features: Tensor) -> Tensor:
        """The discriminants."""
        if self._solved is None:
            unit = torch.eye(len(self.covariance), dtype=torch.float64, device=features.device)
            shrunk = (1 - self.shrinkage) * self.covariance.double() + self.shrinkage * unit
            directions = torch.linalg.solve(shrunk, self.means.T.double())
            offsets = 0.5 * (self.means.T * directions).sum(0)
            self._solved = directions.to(features), offsets.to(features)
        directions, offsets = self._solved
        return features @ directions - offsets
