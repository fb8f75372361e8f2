"""The generator from class names alone: no image is ever captioned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from . import clts, colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


(_CLTS,) = clts.ROWS


def build(setup: Setup) -> SupervisedTemplate:
    """`CLTS` whose only caption of a class is its name, from which all of its images are generated."""
    return clts.build(replace(setup, memory="labels", captions_per_class=1))


ROWS = [
    Row(
        "name-only",
        "CLTS with class names in the place of captions: no image is ever captioned",
        build,
        keeps="class names, the heads and the router",
        colour=colours.BROWN,
        line="--",
        marker="D",
        grid=_CLTS.grid,
        grid_on=_CLTS.grid_on,
        choices=_CLTS.choices,
        shares=_CLTS.shares,
        like="clts",
        uses_pair=True,
    )
]
