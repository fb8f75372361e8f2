"""What is told before an experiment begins: of what, with what, by which settings, and how much is to be made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from avalanche.benchmarks import NCScenario

from ..images.avalanche import image_format
from ..pair.embedded import EMBEDDED
from ..plugins import IMAGES_PER_CLASS
from ..streams.named import parse_stream
from ..streams.orders import num_classes
from .config import searched_on
from .experiment import Experiment
from .rows import ROWS

_BY_OLDER_SEARCH = ", by an older search, on test images of a seed that is not reported"


def introduction(experiment: Experiment, benchmark: NCScenario, *, strategies: Sequence[str]) -> list[str]:
    """A few lines of plain text.

    **Arguments:**

    - strategies: that are run.
    """
    format = image_format(benchmark.train_stream[0].dataset)
    images = sum(len(experience.dataset) for experience in benchmark.train_stream)
    width, height = format.size
    classes = num_classes(benchmark)
    lines = [
        f"stream: {experiment.stream}, {images:,} training images of {width}x{height}, {classes} classes "
        f"in {len(benchmark.train_stream)} experiences",
    ]
    if any(experiment.needs_pair(name) for name in strategies):
        known = f"; it knows {EMBEDDED[experiment.pair].knows}" if experiment.pair in EMBEDDED else ""
        lines.append(f"pair: {experiment.pair} on {experiment.device}{known}")
    lines.append(f"hyper-parameters: {origin_of_settings(experiment, strategies)}")
    if "clts" in strategies and experiment.memory != "images":
        lines.append(f"to make: {_work(experiment, benchmark)}")
    return lines


def origin_of_settings(
    experiment: Experiment, strategies: Sequence[str], found: Mapping[str, dict[str, Any]] | None = None
) -> str:
    """Where the hyper-parameters of the strategies come from, in a phrase.

    **Arguments:**

    - found: what a search has found on the experiment's own stream, by strategy. None: none was run.
    """
    stream, elsewhere, of_older_search = searched_on(experiment.stream)
    searched = f"searched on Split {stream.capitalize()}"
    if parse_stream(experiment.stream).kind != stream:
        searched += ", not on this stream"
    if experiment.on_features:
        searched += ", not on a backbone"
    by_origin: dict[str, list[str]] = {}
    for name in strategies:
        like = ROWS[name].like or name
        if not ROWS[like].searched(parse_stream(experiment.stream).kind, on_features=experiment.on_features):
            continue  # it has nothing to choose
        own, of_search = experiment.options_of(name), (found or {}).get(like)
        theirs = elsewhere.get(like, {})
        by_hand = sorted(option for option in own if own[option] != theirs.get(option))
        if experiment.tune or (of_search is not None and own == of_search):
            by_origin.setdefault("searched on images held out of training, and a seed that is not reported", [])
        elif by_hand:
            by_origin.setdefault("set by hand", []).extend(f"{name}.{option}={own[option]}" for option in by_hand)
        elif own and like in of_older_search:
            by_origin.setdefault(f"{searched}{_BY_OLDER_SEARCH}", []).append(name)
        elif own:
            by_origin.setdefault(searched, [])
        else:
            by_origin.setdefault("as they come", []).append(name)
    if not by_origin or list(by_origin) == ["as they come"]:
        return "as the strategies have them, none searched"
    # Of those that were searched there are many: the others are named.
    order = sorted(by_origin, key=lambda origin: (origin == "as they come", not origin.startswith("searched"), origin))
    return "; ".join(f"{origin} ({', '.join(by_origin[origin])})" if by_origin[origin] else origin for origin in order)


def _work(experiment: Experiment, benchmark: NCScenario) -> str:
    """Captions and images of a run of CLTS."""
    classes = [len(experience.classes_in_this_experience) for experience in benchmark.train_stream]
    captions = experiment.captions_per_class * sum(classes)
    given: Any = experiment.hyperparameters.get("clts", {}).get("replay_size")
    so_far = [sum(classes[: t + 1]) for t in range(len(classes))]
    images = sum(IMAGES_PER_CLASS * n for n in so_far) if given is None else given * len(classes)
    runs = "in one run" if experiment.seeds == 1 else f"in each of {experiment.seeds} runs"
    return f"up to {captions:,} captions and {images:,} images {runs} of CLTS"
