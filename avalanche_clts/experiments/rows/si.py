"""SI (Zenke et al., ICML 2017), with weights that are copied where Avalanche's plugin keeps views."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def build(setup: Setup) -> SupervisedTemplate:
    """`Naive` with the plugin, as Avalanche's `SynapticIntelligence` is."""
    from avalanche.training.supervised import Naive

    from ..strategies.si import CopyingSynapticIntelligence

    options = {"si_lambda": 1.0, **setup.options}
    return Naive(**setup.single(), plugins=[CopyingSynapticIntelligence(**options)])


ROWS = [
    Row(
        "si",
        "synaptic intelligence",
        build,
        keeps="the network, and weights and importances",
        colour=colours.GREEN,
        line=":",
        marker="^",
        grid={"si_lambda": [0.1, 1.0, 10.0, 100.0, 1e3, 1e4]},
    )
]
