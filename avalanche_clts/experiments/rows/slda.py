"""Deep streaming linear discriminant analysis on frozen features (Hayes and Kanan, CVPR Workshops 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from ..strategies.one_pass import OnePass


def build(setup: Setup) -> OnePass:
    """`StreamingDiscriminants` on the backbone."""
    from ..strategies.one_pass import frozen, one_pass
    from ..strategies.slda import StreamingDiscriminants

    options = {"shrinkage": 1e-2, **setup.options}
    return one_pass(setup, StreamingDiscriminants(*frozen(setup), setup.num_classes, **options))


ROWS = [
    Row(
        "slda",
        "on a frozen backbone: streaming linear discriminant analysis",
        build,
        keeps="a mean a class, and one covariance",
        colour=colours.OLIVE,
        line="--",
        marker="s",
        grid={"shrinkage": [1e-2, 1e-4, 3e-4, 1e-3, 3e-3, 3e-2, 0.1, 0.3]},
        shares=["shrinkage"],
        trained=False,
        on_features=True,
    )
]
