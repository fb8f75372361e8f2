"""GDumb (Prabhu et al., ECCV 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def build(setup: Setup) -> SupervisedTemplate:
    """Avalanche's `GDumb`, for as many epochs as its buffer needs."""
    from avalanche.training.supervised import GDumb

    return GDumb(**{**setup.single(), **setup.options}, mem_size=setup.num_captions)


ROWS = [
    Row(
        "gdumb",
        "trained from scratch on as many stored images as captions",
        build,
        keeps="the network, and as many images as captions",
        colour=colours.VIOLET,
        line="--",
        marker="s",
        grid={"train_epochs": [10, 20, 30, 50, 75, 100]},
    )
]
