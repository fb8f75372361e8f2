"""All data so far, after each experience."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def build(setup: Setup) -> SupervisedTemplate:
    """Avalanche's `Cumulative`."""
    from avalanche.training.supervised import Cumulative

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
