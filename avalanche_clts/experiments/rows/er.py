"""Experience replay at four budgets, and with a reservoir: what real images are worth beside captions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import colours
from .row import Grid, Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


_PAST = ("captions", "exemplars")  # of CLTS: exemplars where its memory is images
REPLAY: Grid = {"batch_size_mem": [8, 16, 32, 64, 128, 256]}


def build_reservoir(setup: Setup) -> SupervisedTemplate:
    """As many images as captions, whatever their classes."""
    from avalanche.training.plugins import ReplayPlugin
    from avalanche.training.storage_policy import ReservoirSamplingBuffer
    from avalanche.training.supervised import Naive

    storage = ReservoirSamplingBuffer(setup.num_captions)
    replay = ReplayPlugin(setup.num_captions, storage_policy=storage, **setup.options)
    return Naive(**setup.single(), plugins=[replay])


def balanced(budget: Callable[[Setup], int]) -> Callable[[Setup], SupervisedTemplate]:
    """Builds replay with as many exemplars, in equal parts for all classes, as `budget` says; one at least."""

    def build(setup: Setup) -> SupervisedTemplate:
        from avalanche.training.plugins import ReplayPlugin
        from avalanche.training.storage_policy import ClassBalancedBuffer
        from avalanche.training.supervised import Naive

        mem_size = max(1, budget(setup))
        replay = ReplayPlugin(mem_size, storage_policy=ClassBalancedBuffer(mem_size), **setup.options)
        return Naive(**setup.single(), plugins=[replay])

    return build


def _total_budget(setup: Setup) -> int:
    from ...footprint import module_nbytes

    network = module_nbytes(setup.network(setup.num_classes))
    return max(0, setup.clts_bytes(*_PAST, "heads", "router") - network) // setup.image_nbytes


ROWS = [
    Row(
        "er-bytes",
        "replay of as many real images as fit in the bytes of CLTS's captions, one at least",
        balanced(lambda setup: setup.clts_bytes(*_PAST) // setup.image_nbytes),
        keeps="the network, and images in the bytes of the captions",
        colour=colours.LIGHT_BLUE,
        marker="v",
        grid=REPLAY,
        family="er",
        after_clts=True,
    ),
    Row(
        "er-count",
        "replay of as many real images as CLTS has captions",
        balanced(lambda setup: setup.num_captions),
        keeps="the network, and as many images as captions",
        colour=colours.BLUE,
        grid=REPLAY,
        family="er",
    ),
    Row(
        "er-63x",
        "replay of as many real images as fit in 63 times the bytes of CLTS's captions",
        balanced(lambda setup: 63 * setup.clts_bytes(*_PAST) // setup.image_nbytes),
        keeps="the network, and images in 63 times the bytes of the captions",
        colour=colours.LIGHT_BLUE,
        line="--",
        marker="^",
        grid=REPLAY,
        family="er",
        after_clts=True,
    ),
    Row(
        "er-total",
        "replay of real images until network and images weigh as much as CLTS's captions, heads and router",
        balanced(_total_budget),
        keeps="the network, and images, together as heavy as what CLTS keeps",
        colour=colours.BLUE,
        line="--",
        marker="s",
        grid=REPLAY,
        family="er",
        after_clts=True,
    ),
    Row(
        "er-reservoir",
        "replay of as many real images as captions, kept by reservoir sampling",
        build_reservoir,
        keeps="the network, and as many images as captions",
        colour=colours.LIGHT_BLUE,
        line=":",
        marker="D",
        grid=REPLAY,
    ),
]
