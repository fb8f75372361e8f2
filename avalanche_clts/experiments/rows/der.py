"""DER++ (Buzzega et al., NeurIPS 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def build(setup: Setup) -> SupervisedTemplate:
    """Avalanche's `DER`, which is DER++ where beta is not 0; its memory is augmented as the stream is, and replayed
    where it is smaller than its batch as well."""
    from ..strategies.der import WholeMemoryDER

    return WholeMemoryDER(**setup.single(), mem_size=setup.num_captions, **setup.options)


ROWS = [
    Row(
        "der++",
        "dark experience replay, as many images (with logits) as captions",
        build,
        keeps="the network, and as many images with their logits as captions",
        colour=colours.VIOLET,
        # The batch that Avalanche's takes by itself first.
        grid={"batch_size_mem": [32, 8, 16, 64, 128, 256], "alpha": [0.1, 0.5, 1.0], "beta": [0.5, 1.0]},
    )
]
