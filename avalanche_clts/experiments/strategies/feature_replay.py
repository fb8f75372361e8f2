"""Replay of features drawn from a Gaussian a class, on a frozen backbone (after SLCA: Zhang et al., ICCV 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..rows.row import Covariance


class Gaussian:
    """A Gaussian of the features `(n, width)`, n at least 1, of which no feature is kept."""

    def __init__(self, features: Tensor, covariance: Covariance) -> None:
        self.mean = features.mean(0)
        deviations = features - self.mean
        if covariance == "diagonal":
            self.covariance = deviations.square().mean(0)
            self._root = self.covariance.sqrt()
        else:
            self.covariance = deviations.T @ deviations / len(features)
            # Of n samples it has a rank below n: what has a root is the covariance and a little of the identity.
            values, vectors = torch.linalg.eigh(self.covariance.double())
            self._root = (vectors * values.clamp_min(0).sqrt()).to(features)

    def sample(self, count: int) -> Tensor:
        """Features drawn at random, `(count, width)`."""
        noise = torch.randn(count, len(self.mean), device=self.mean.device)
        return self.mean + (noise * self._root if self._root.dim() == 1 else noise @ self._root.T)

    @property
    def nbytes(self) -> int:
        """Of mean and covariance."""
        return self.mean.nbytes + self.covariance.nbytes


class FeatureReplayPlugin(SupervisedPlugin):
    """Beside every batch of an experience, features of the classes before it, drawn from their Gaussians.

    **Arguments:**

    - backbone, classifier: of which the strategy's model is made, one after the other.
    - batch_size_mem: features drawn for each batch.
    - covariance: of each class: "full", or "diagonal", the variances alone.
    """

    def __init__(
        self, backbone: nn.Module, classifier: nn.Module, *, batch_size_mem: int, covariance: Covariance
    ) -> None:
        super().__init__()
        self._parts = backbone, classifier
        self.batch_size_mem = batch_size_mem
        self.covariance: Covariance = covariance
        self.gaussians: dict[int, list[Gaussian]] = {}  # of a class, one for each experience that showed it

    def kept_bytes(self) -> Mapping[str, int]:
        """Means and covariances."""
        return {"network": sum(gaussian.nbytes for of_class in self.gaussians.values() for gaussian in of_class)}

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Add the loss of what is drawn, so that each sample of the batch and each drawn one weigh alike."""
        if not self.gaussians:
            return
        _, classifier = self._parts
        features, targets = self._drawn()
        replayed = nn.functional.cross_entropy(classifier(features), targets)
        real, drawn = len(strategy.mb_y), len(targets)
        strategy.loss = (real * strategy.loss + drawn * replayed) / (real + drawn)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Keep the Gaussians of the experience's classes."""
        backbone, _ = self._parts
        loader: DataLoader[Any] = DataLoader(strategy.experience.dataset.eval(), batch_size=strategy.eval_mb_size)
        pairs = [(backbone(x.to(strategy.device)), y.to(strategy.device)) for x, y, *_ in loader]
        features, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        for target in targets.unique().tolist():
            gaussian = Gaussian(features[targets == target], self.covariance)
            self.gaussians.setdefault(int(target), []).append(gaussian)

    def _drawn(self) -> tuple[Tensor, Tensor]:
        """As many of every class, but for a remainder that falls to classes at random."""
        classes = list(self.gaussians)
        order = [classes[i] for i in torch.randperm(len(classes)).tolist()]
        share, rest = divmod(self.batch_size_mem, len(order))
        features, targets = [], []
        for i, target in enumerate(order):
            of_class = self.gaussians[target]
            count = share + (i < rest)
            if count:
                chosen = of_class[int(torch.randint(len(of_class), ()))]
                features.append(chosen.sample(count))
                targets += [target] * count
        drawn = torch.cat(features)
        return drawn, torch.tensor(targets, device=drawn.device)
