"""Ridge regression on frozen features, as they are or randomly projected (RanPAC: McDonnell et al., NeurIPS 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from ..strategies.one_pass import OnePass


def build(setup: Setup) -> OnePass:
    """`RidgeClassifier` on the backbone."""
    from ..strategies.one_pass import frozen, one_pass
    from ..strategies.ridge import RidgeClassifier

    options = {"ridge": 1e-2, **setup.options}
    return one_pass(setup, RidgeClassifier(*frozen(setup), setup.num_classes, **options))


def build_projected(setup: Setup) -> OnePass:
    """`RidgeClassifier` on random features: RanPAC without its first session, in which the backbone is adapted."""
    from ..strategies.one_pass import frozen, one_pass
    from ..strategies.ridge import RidgeClassifier

    options = {"ridge": 1e-2, "projection": 2000, **setup.options}
    return one_pass(setup, RidgeClassifier(*frozen(setup), setup.num_classes, **options))


ROWS = [
    Row(
        "ridge",
        "on a frozen backbone: ridge regression on features",
        build,
        keeps="products of features with each other and with classes",
        colour=colours.OLIVE,
        marker="v",
        grid={"ridge": [1e-2, 1e-4, 1e-3, 3e-3, 3e-2, 0.1, 1.0, 10.0]},
        trained=False,
        on_features=True,
    ),
    Row(
        "ranpac",
        "on a frozen backbone: ridge regression on random projections of features (RanPAC)",
        build_projected,
        keeps="a random projection, and products of what it yields with itself and with classes",
        colour=colours.SLATE,
        marker="v",
        grid={"projection": [2000, 1000], "ridge": [1e-2, 1e-4, 0.1, 1.0]},
        trained=False,
        on_features=True,
    ),
]
