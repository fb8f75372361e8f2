"""What is told before an experiment begins: of what, with what, by which settings, and how much is to be made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avalanche.benchmarks import NCScenario

from ..images.avalanche import image_format
from ..pair.embedded import EMBEDDED
from ..plugins import IMAGES_PER_CLASS
from ..streams.named import parse_stream
from .config import searched_on
from .experiment import Experiment
from .rows import ROWS


def introduction(experiment: Experiment, benchmark: NCScenario, *, strategies: Sequence[str]) -> list[str]:
    """A few lines of plain text.

    **Arguments:**

    - strategies: that are run.
    """
    format = image_format(benchmark.train_stream[0].dataset)
    images = sum(len(experience.dataset) for experience in benchmark.train_stream)
    width, height = format.size
    lines = [
        f"stream: {experiment.stream}, {images:,} training images of {width}x{height}, {benchmark.n_classes} classes "
        f"in {len(benchmark.train_stream)} experiences",
    ]
    if any(experiment.needs_pair(name) for name in strategies):
        known = f"; it knows {EMBEDDED[experiment.pair].knows}" if experiment.pair in EMBEDDED else ""
        lines.append(f"pair: {experiment.pair} on {experiment.device}{known}")
    lines.append(f"hyper-parameters: {origin_of_settings(experiment, strategies)}")
    if "clts" in strategies and experiment.memory != "images":
        lines.append(f"to make: {_work(experiment, benchmark)}")
    return lines


def origin_of_settings(experiment: Experiment, strategies: Sequence[str]) -> str:
    """Where the hyper-parameters of the strategies come from, in a phrase."""
    stream, searched = searched_on(experiment.stream)
    if experiment.tune:
        return "searched on images held out of training, and a seed that is not reported"
    by_origin: dict[str, list[str]] = {}
    for name in strategies:
        own = experiment.hyperparameters.get(name, {})
        by_hand = sorted(option for option in own if own[option] != searched.get(name, {}).get(option))
        if by_hand:
            by_origin.setdefault("set by hand", []).extend(f"{name}.{option}={own[option]}" for option in by_hand)
        elif own and ROWS[name].grid:
            elsewhere = "" if parse_stream(experiment.stream).kind == stream else ", not on this stream"
            by_origin.setdefault(f"searched on Split {stream.capitalize()}{elsewhere}", []).append(name)
    if not by_origin:
        return "as the strategies have them, none searched"
    # Of those that were searched there are many: the others are named.
    told = [
        f"{origin} ({', '.join(of)})" if origin == "set by hand" else origin
        for origin, of in sorted(by_origin.items(), reverse=True)
    ]
    return "; ".join(reversed(told))


def _work(experiment: Experiment, benchmark: NCScenario) -> str:
    """Captions and images of a run of CLTS."""
    classes = [len(experience.classes_in_this_experience) for experience in benchmark.train_stream]
    captions = experiment.captions_per_class * sum(classes)
    given: Any = experiment.hyperparameters.get("clts", {}).get("replay_size")
    so_far = [sum(classes[: t + 1]) for t in range(len(classes))]
    images = sum(IMAGES_PER_CLASS * n for n in so_far) if given is None else given * len(classes)
    runs = "in one run" if experiment.seeds == 1 else f"in each of {experiment.seeds} runs"
    return f"up to {captions:,} captions and {images:,} images {runs} of CLTS"
