"""Plain fine-tuning: what is forgotten where nothing is done against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def build(setup: Setup) -> SupervisedTemplate:
    """Avalanche's `Naive`."""
    from avalanche.training.supervised import Naive

    return Naive(**setup.single())


ROWS = [
    Row(
        "naive",
        "plain fine-tuning: the lower bound",
        build,
        keeps="the network",
        colour=colours.GREY,
        line=":",
    )
]
