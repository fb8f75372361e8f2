"""Captions in the place of a replay buffer: one network, and images that are regenerated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


_BATCHES = [32, 64, 128, 256]


def build(setup: Setup) -> SupervisedTemplate:
    """`Naive` with `CaptionReplayPlugin`."""
    from avalanche.training.supervised import Naive

    from ...plugins import CaptionReplayPlugin

    replay = CaptionReplayPlugin(pair=setup.pair, mem_size=setup.num_captions, **setup.options)
    return Naive(**setup.single(), plugins=[replay])


ROWS = [
    Row(
        "caption-replay",
        "one network, replay of images regenerated from as many captions",
        build,
        keeps="the network, and captions",
        colour=colours.ORANGE,
        marker="D",
        grid={"replay_size": [400, 1000, 2000], "batch_size_mem": _BATCHES},
        # Digits has half as many captions as shapes, and its images are generated for as many.
        grid_on={"digits": {"replay_size": [200, 500], "batch_size_mem": _BATCHES}},
        uses_pair=True,
    )
]
