"""Replay of features drawn from a Gaussian a class, on a frozen backbone (after SLCA: Zhang et al., ICCV 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from . import colours
from .row import Covariance, Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def build(setup: Setup) -> SupervisedTemplate:
    """`Naive` with `FeatureReplayPlugin`."""
    from avalanche.training.supervised import Naive
    from torch import nn

    from ..strategies.feature_replay import FeatureReplayPlugin
    from ..strategies.one_pass import frozen

    backbone, _ = frozen(setup)
    classifier = setup.network(setup.num_classes)
    options = {"batch_size_mem": setup.train_mb_size, "covariance": "full", **setup.options}
    replay = FeatureReplayPlugin(backbone, classifier, **options)
    return Naive(**setup.common(nn.Sequential(backbone, classifier)), plugins=[replay])


ROWS = [
    Row(
        "feature-replay",
        "on a frozen backbone: replay of features drawn from a Gaussian a class",
        build,
        keeps="the network, and a mean and a covariance a class",
        colour=colours.SLATE,
        line="--",
        marker="P",
        grid={"batch_size_mem": [32, 8, 16, 64, 128, 256]},
        choices={"covariance": get_args(Covariance)},
        on_features=True,
    )
]
