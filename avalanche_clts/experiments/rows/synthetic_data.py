"""How good are regenerated images as training data? Joint training on them, alone or beside real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def synthetic(*, mixed: bool) -> Callable[[Setup], SupervisedTemplate]:
    """Builds joint training on regenerated images; `mixed`: on the real ones as well."""

    def build(setup: Setup) -> SupervisedTemplate:
        from ...memory.buffer import CaptionBuffer
        from ..strategies.synthetic_data import SyntheticJointTraining

        buffer = CaptionBuffer(pair=setup.pair, captions_per_class=setup.captions_per_class)
        return SyntheticJointTraining(**setup.single(), buffer=buffer, mixed=mixed)

    return build


ROWS = [
    Row(
        "joint-synthetic",
        "all data at once, regenerated from captions",
        synthetic(mixed=False),
        keeps="captions of the whole stream",
        colour=colours.ORANGE,
        line="--",
        marker="s",
        uses_pair=True,
        compared=False,
    ),
    Row(
        "joint-mixed",
        "all data at once, real and regenerated",
        synthetic(mixed=True),
        keeps="the whole stream, and captions of it",
        colour=colours.ORANGE,
        line=":",
        marker="^",
        uses_pair=True,
        compared=False,
    ),
]
