"""Everything at once: what a network can learn where nothing has to be remembered."""

from __future__ import annotations

from avalanche.training.supervised import JointTraining
from avalanche.training.templates import SupervisedTemplate

from . import colours
from .row import Row, Setup


def build(setup: Setup) -> SupervisedTemplate:
    """Avalanche's `JointTraining`."""
    return JointTraining(**setup.single())


ROWS = [
    Row(
        "joint",
        "all data at once: the upper bound",
        build,
        keeps="the whole stream",
        colour=colours.GREY,
        line="--",
        marker="",
        keeps_stream=True,
    )
]
