"""Everything at once: what a network can learn where nothing has to be remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def build(setup: Setup) -> SupervisedTemplate:
    """Avalanche's `JointTraining`."""
    from avalanche.training.supervised import JointTraining

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
