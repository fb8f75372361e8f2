"""All data so far, after each experience."""

from __future__ import annotations

from avalanche.training.supervised import Cumulative
from avalanche.training.templates import SupervisedTemplate

from . import colours
from .row import Row, Setup


def build(setup: Setup) -> SupervisedTemplate:
    """Avalanche's `Cumulative`."""
    return Cumulative(**setup.single())


ROWS = [
    Row(
        "cumulative",
        "all data so far, after each experience",
        build,
        keeps="all images so far",
        colour=colours.GREY,
        marker="s",
        keeps_stream=True,
    )
]
