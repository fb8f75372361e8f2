"""Deep generative replay (Shin et al., NeurIPS 2017) with Avalanche's VAE, at the stream's shape and values.

As Avalanche's default, which is made for 28x28 MNIST: its decoder ends in MNIST's normalisation.
"""

from __future__ import annotations

from typing import Any

from avalanche.models.generator import MlpVAE, VAE_loss
from avalanche.training.plugins import EvaluationPlugin, GenerativeReplayPlugin
from avalanche.training.supervised import GenerativeReplay, VAETraining
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.optim import Adam

from . import colours
from .row import Row, Setup

_LEARNING_RATE = 1e-3  # of the VAE


class _VAETraining(VAETraining):
    """Without a batch of one, which the VAE's batch normalisation refuses."""

    def make_train_dataloader(self, **kwargs: Any) -> None:
        super().make_train_dataloader(**{**kwargs, "drop_last": True})


class _ToRange(nn.Module):
    """[0, 1] to the stream's range of values."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return self.low + x * (self.high - self.low)


def build(setup: Setup) -> SupervisedTemplate:
    """Avalanche's `GenerativeReplay` around a VAE that fits the stream."""
    common = setup.single()
    options = {"latent_dim": 16, "generator_epochs": setup.train_epochs, **setup.options}
    generator = MlpVAE(setup.input_shape, nhid=options["latent_dim"], device=setup.device)
    generator.decoder.invTrans = _ToRange(*setup.value_range)
    training = _VAETraining(
        model=generator,
        optimizer=Adam(generator.parameters(), lr=_LEARNING_RATE),
        criterion=VAE_loss,
        train_mb_size=setup.train_mb_size,
        train_epochs=options["generator_epochs"],
        device=setup.device,
        plugins=[GenerativeReplayPlugin()],
        evaluator=EvaluationPlugin(),
    )
    return GenerativeReplay(**common, generator_strategy=training)


ROWS = [
    Row(
        "generative-replay",
        "replay of images from a VAE that learns the stream",
        build,
        keeps="the network, and a VAE",
        colour=colours.PINK,
        grid={"latent_dim": [8, 32, 100], "generator_epochs": [10, 30]},
    )
]
