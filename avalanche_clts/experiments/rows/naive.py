"""Plain fine-tuning: what is forgotten where nothing is done against it."""

from __future__ import annotations

from avalanche.training.supervised import Naive
from avalanche.training.templates import SupervisedTemplate

from . import colours
from .row import Row, Setup


def build(setup: Setup) -> SupervisedTemplate:
    """Avalanche's `Naive`."""
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
