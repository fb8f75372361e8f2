"""Ridge regression on frozen features, as they are or randomly projected (RanPAC: McDonnell et al., NeurIPS 2023)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .one_pass import FeatureStatistics


class RidgeClassifier(FeatureStatistics):
    """Regression on the classes of all samples so far: of them it keeps the products of features with each other and
    with classes, so that the order in which they came makes no difference.

    **Arguments:** those of `FeatureStatistics`, and

    - width: of the features.
    - ridge: of the regression, as a share of the mean square of features.
    - projection: random features that take the place of the backbone's, max(0, x W). 0: none do.
    """

    gram: Tensor
    products: Tensor
    random: Tensor | None
    _weights: Tensor | None

    def __init__(self, backbone: nn.Module, width: int, num_classes: int, *, ridge: float, projection: int = 0) -> None:
        super().__init__(backbone, num_classes)
        drawn = torch.randn(width, projection) / math.sqrt(width) if projection else None
        self.register_buffer("random", drawn)
        size = projection or width
        self.register_buffer("gram", torch.zeros(size, size))
        self.register_buffer("products", torch.zeros(size, num_classes))
        self.ridge = ridge
        self._weights = None

    def add(self, features: Tensor, targets: Tensor) -> None:
        """Add the samples' products."""
        features = self._projected(features)
        self.gram += features.T @ features
        self.products += features.T @ F.one_hot(targets, self.products.shape[1]).to(features)
        self._weights = None

    def scores(self, features: Tensor) -> Tensor:
        """What the regression says."""
        if self._weights is None:
            gram = self.gram.double()
            ridge = self.ridge * gram.diagonal().mean().clamp_min(1e-12)
            factor = torch.linalg.cholesky(gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))
            self._weights = torch.cholesky_solve(self.products.double(), factor).to(features)
        return self._projected(features) @ self._weights

    def _projected(self, features: Tensor) -> Tensor:
        return features if self.random is None else (features @ self.random).relu()
