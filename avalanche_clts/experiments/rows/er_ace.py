"""ER-ACE (Caccia et al., ICLR 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .er import REPLAY
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def build(setup: Setup) -> SupervisedTemplate:
    """Avalanche's `ER_ACE`, which replays from a memory smaller than its batch as well."""
    from ..strategies.er_ace import WholeMemoryERACE

    return WholeMemoryERACE(**setup.single(), mem_size=setup.num_captions, **setup.options)


ROWS = [
    Row(
        "er-ace",
        "replay with an asymmetric cross-entropy, as many images as captions",
        build,
        keeps="the network, and as many images as captions",
        colour=colours.BLUE,
        line=":",
        marker="P",
        grid=REPLAY,
    )
]
