"""Deep generative replay (Shin et al., NeurIPS 2017) with Avalanche's VAE, at the stream's shape and values.

As Avalanche's default, which is made for 28x28 MNIST: its decoder ends in MNIST's normalisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate

_LEARNING_RATE = 1e-3  # of the VAE


def build(setup: Setup) -> SupervisedTemplate:
    """Avalanche's `GenerativeReplay` around a VAE that fits the stream."""
    from avalanche.models.generator import MlpVAE, VAE_loss
    from avalanche.training.plugins import EvaluationPlugin, GenerativeReplayPlugin
    from avalanche.training.supervised import GenerativeReplay
    from torch.optim import Adam

    from ..strategies.generative_replay import FullBatches, ToRange

    common = setup.single()
    options = {"latent_dim": 16, "generator_epochs": setup.train_epochs, **setup.options}
    generator = MlpVAE(setup.input_shape, nhid=options["latent_dim"], device=setup.device)
    generator.decoder.invTrans = ToRange(*setup.value_range)
    training = FullBatches(
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
