"""CLTS (arXiv 2409.17806): task heads behind a router that learns from regenerated images."""

from __future__ import annotations

from typing import get_args

from avalanche.training.templates import SupervisedTemplate

from ...models import RoutedModel
from ...pair.captioners import LabelCaptioner
from ...pair.loading import Pair
from ...routers import RouterData, RouterTargets, RouterTraining
from ...strategy import CLTS
from . import colours
from .row import Memory, Row, Setup
from .stored_images import stored_images

# Hyper-parameters of the row that are fields of `RouterTraining`.
_TAUGHT = {f"router_{name}": name for name in ("epochs", "data", "targets", "label_smoothing", "falling_rate")}


def build(setup: Setup) -> SupervisedTemplate:
    """`CLTS`, with a router that is a network of its own, or on a backbone."""
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
    if memory == "images":
        return stored_images()
    return Pair(LabelCaptioner("a {class_name}"), pair.generator) if memory == "labels" else pair


ROWS = [
    Row(
        "clts",
        "task heads behind a router trained on images regenerated from captions",
        build,
        keeps="captions, the heads and the router",
        colour=colours.RED,
        grid={"replay_size": [1000, 2000], "router_epochs": [5, 10, 20]},
        # Digits has half as many captions as shapes, and its images are generated for as many.
        grid_on={"digits": {"replay_size": [500, 1000], "router_epochs": [10, 20, 30]}},
        choices={
            "router_data": get_args(RouterData),
            "router_targets": get_args(RouterTargets),
            # What goes beyond the paper can be turned off.
            "router_label_smoothing": (0.1, 0.0),
            "router_falling_rate": (True, False),
            "recombine": (True, False),
        },
        uses_pair=True,
    )
]
