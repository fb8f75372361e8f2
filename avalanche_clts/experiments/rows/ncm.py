"""Nearest class mean on frozen features (Mensink et al., TPAMI 2013)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from ..strategies.one_pass import OnePass


def build(setup: Setup) -> OnePass:
    """`NearestClassMean` on the backbone."""
    from ..strategies.ncm import NearestClassMean
    from ..strategies.one_pass import frozen, one_pass

    return one_pass(setup, NearestClassMean(*frozen(setup), setup.num_classes))


ROWS = [
    Row(
        "ncm",
        "on a frozen backbone: the nearest class mean of features",
        build,
        keeps="a mean a class",
        colour=colours.OLIVE,
        line=":",
        marker="D",
        trained=False,
        on_features=True,
    )
]
