"""EWC (Kirkpatrick et al., PNAS 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def build(setup: Setup) -> SupervisedTemplate:
    """Avalanche's `EWC`."""
    from avalanche.training.supervised import EWC

    options = {"ewc_lambda": 1.0, **setup.options}
    return EWC(**setup.single(), **options)


ROWS = [
    Row(
        "ewc",
        "elastic weight consolidation",
        build,
        keeps="the network, and weights and importances of each experience",
        colour=colours.GREEN,
        grid={"ewc_lambda": [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]},
    )
]
