"""The pair's captioner alone, asked for the class: nothing is learnt, and nothing kept but class names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from ...pair.loading import Pair
    from ..strategies.one_pass import OnePass


def ask_likeliest(setup: Setup) -> OnePass:
    """A strategy that asks the pair's captioner for the likeliest class."""
    from ...asking import LikeliestClass
    from ..strategies.captioner import AskedModel
    from ..strategies.one_pass import one_pass

    return one_pass(setup, AskedModel(LikeliestClass(setup.pair.captioner), setup.num_classes))


def ask_freely(setup: Setup) -> OnePass:
    """A strategy that looks for the class in what the pair's captioner says."""
    from ..strategies.captioner import AskedModel, NamedClass
    from ..strategies.one_pass import one_pass

    return one_pass(setup, AskedModel(NamedClass(setup.pair.captioner), setup.num_classes))


def unfit(benchmark: Any) -> str | None:
    """Why the captioner cannot be asked for the classes of a benchmark, or None."""
    from ...images.normalisation import measure_normalisation
    from ...memory.origins import names_in_words

    dataset = benchmark.train_stream[0].dataset
    if names_in_words(dataset) is None:
        return "the captioner is asked for classes by their names, which this stream does not know"
    try:
        measure_normalisation(dataset)
    except ValueError:
        return "the evaluation transform of this stream does more than normalise, so that no image is what it was"
    return None


def unfit_pair(pair: Pair) -> str | None:
    """Why a pair's captioner cannot be asked for the likeliest class, or None."""
    if getattr(pair.captioner, "log_likelihoods", None) is not None:  # None: of a kind that has none
        return None
    return f"a {type(pair.captioner).__name__} does not say how likely it finds a text"


ROWS = [
    Row(
        "captioner",
        "no learning: the class whose prompt the pair's captioner finds likeliest",
        ask_likeliest,
        keeps="class names",
        colour=colours.BROWN,
        marker="s",
        trained=False,
        uses_pair=True,
        unfit=unfit,
        unfit_pair=unfit_pair,
    ),
    Row(
        "captioner-free",
        "no learning: the class that the captioner's own caption names",
        ask_freely,
        keeps="class names",
        colour=colours.BROWN,
        line=":",
        marker="D",
        trained=False,
        uses_pair=True,
        unfit=unfit,
    ),
]
