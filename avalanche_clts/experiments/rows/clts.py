"""CLTS (arXiv 2409.17806): task heads behind a router that learns from regenerated images."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from ...choices import RouterData, RouterTargets
from . import colours
from .row import Grid, Memory, Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate

    from ...pair.loading import Pair


# Hyper-parameters of the row that are fields of `RouterTraining`.
_TAUGHT = {f"router_{name}": name for name in ("epochs", "data", "targets", "label_smoothing", "falling_rate")}


# Each can be turned off; a search counts them among CLTS's own.
_BEYOND_THE_PAPER: Grid = {
    "router_targets": get_args(RouterTargets),
    "router_label_smoothing": [0.1, 0.0],
    "router_falling_rate": [True, False],
    "recombine": [True, False],
}


def build(setup: Setup) -> SupervisedTemplate:
    """`CLTS`, with a router that is a network of its own, or on a backbone."""
    from ...models import RoutedModel
    from ...routers import RouterTraining
    from ...strategy import CLTS

    model = RoutedModel(
        head=setup.network(setup.num_classes),
        router=setup.router(setup.num_classes),
        backbone=setup.backbone,
        routing=setup.routing,
    )
    options = dict(setup.options)
    taught = {field: options.pop(option) for option, field in _TAUGHT.items() if option in options}
    return CLTS(
        **setup.common(model),
        pair=remembering(setup.pair, setup.memory),
        captions_per_class=setup.captions_per_class,
        router_training=RouterTraining(**taught),
        router_view=setup.router_view,
        **options,
    )


def remembering(pair: Pair, memory: Memory) -> Pair:
    """The pair, made to remember captions, class names, or the images themselves."""
    from ...pair.captioners import LabelCaptioner
    from ...pair.loading import Pair
    from .stored_images import stored_images

    if memory == "images":
        return stored_images(pair)
    if memory == "labels":  # as the pair's own captions begin, where they all begin alike: its generator knows that
        return Pair(LabelCaptioner(getattr(pair.captioner, "prefix", None) or "a {class_name}"), pair.generator)
    return pair


ROWS = [
    Row(
        "clts",
        "task heads behind a router trained on images regenerated from captions",
        build,
        keeps="captions, the heads and the router",
        colour=colours.RED,
        grid={"replay_size": [2000, 5000, 10_000], "router_epochs": [20, 10, 5], **_BEYOND_THE_PAPER},
        # Digits has half as many captions as shapes, and its images are generated for as many.
        grid_on={"digits": {"replay_size": [1000, 500], "router_epochs": [20, 10, 30], **_BEYOND_THE_PAPER}},
        choices={"router_data": get_args(RouterData)},
        shares=["router_label_smoothing"],
        uses_pair=True,
    )
]
