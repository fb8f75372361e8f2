"""Deep generative replay (Shin et al., NeurIPS 2017) with Avalanche's VAE, at the stream's shape and values.

As Avalanche's default, which is made for 28x28 MNIST: its decoder ends in MNIST's normalisation.
"""

from __future__ import annotations

from typing import Any

from avalanche.training.supervised import VAETraining
from torch import Tensor, nn


class FullBatches(VAETraining):
    """Training of a VAE without a batch of one, which the VAE's batch normalisation refuses."""

    def make_train_dataloader(self, **kwargs: Any) -> None:
        """Leave out the last batch where it is of one, and not the only one."""
        single = len(self.adapted_dataset) % self.train_mb_size == 1 < len(self.adapted_dataset)
        super().make_train_dataloader(**{**kwargs, "drop_last": single})


class ToRange(nn.Module):
    """[0, 1] to the stream's range of values."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        """Values in the stream's range, in the shape of `x`."""
        return self.low + x * (self.high - self.low)
