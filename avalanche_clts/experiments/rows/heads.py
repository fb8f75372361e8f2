"""Task heads without a router: the most confident one decides. What CLTS is without a generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def build(setup: Setup) -> SupervisedTemplate:
    """`Naive` on a `RoutedModel`: nothing but the heads is trained."""
    from avalanche.training.supervised import Naive

    from ...models import RoutedModel
    from ..strategies.heads import ConfidenceRouter

    router = ConfidenceRouter()
    model = RoutedModel(head=setup.network(setup.num_classes), router=router, backbone=setup.backbone)
    router.of(model)
    return Naive(**setup.common(model))


ROWS = [
    Row(
        "heads",
        "task heads alone: the most confident one decides, and no generator is needed",
        build,
        keeps="the heads",
        colour=colours.TEAL,
        line=":",
        marker="^",
    )
]
