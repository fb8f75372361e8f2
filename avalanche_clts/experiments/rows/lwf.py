"""LwF (Li and Hoiem, ECCV 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def build(setup: Setup) -> SupervisedTemplate:
    """Avalanche's `LwF`."""
    from avalanche.training.supervised import LwF

    options = {"alpha": 1.0, "temperature": 2.0, **setup.options}
    return LwF(**setup.single(), **options)


ROWS = [
    Row(
        "lwf",
        "learning without forgetting",
        build,
        keeps="the network, and a copy from before the experience",
        colour=colours.GREEN,
        line="--",
        marker="s",
        grid={"alpha": [0.5, 1.0, 5.0], "temperature": [1.0, 2.0]},
    )
]
