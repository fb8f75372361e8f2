"""iCaRL (Rebuffi et al., CVPR 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...streams.orders import has_disjoint_experiences
from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def build(setup: Setup) -> SupervisedTemplate:
    """Avalanche's `ICaRL`, which has a loss of its own and takes the network in two parts."""
    from avalanche.training.supervised import ICaRL

    from ...networks import split_network

    common = setup.single() | dict(setup.options)
    features, classifier = split_network(common["model"])
    own = {name: value for name, value in common.items() if name not in ("model", "criterion")}
    return ICaRL(
        feature_extractor=features,
        classifier=classifier,
        memory_size=setup.num_captions,
        fixed_memory=True,
        buffer_transform=None,
        **own,
    )


def unfit(benchmark: Any) -> str | None:
    """Why iCaRL cannot run on a benchmark, or None."""
    if has_disjoint_experiences(benchmark):
        return None
    return "iCaRL gives each class to one experience, and here classes come again"


ROWS = [
    Row(
        "icarl",
        "nearest class mean of features, as many exemplars as captions",
        build,
        keeps="the network, and as many images as captions",
        colour=colours.VIOLET,
        line=":",
        marker="^",
        grid={"train_epochs": [20, 10]},
        unfit=unfit,
    )
]
