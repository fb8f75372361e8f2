"""A benchmark on images that no strategy is reported on: what a search looks at."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch
from avalanche.benchmarks import benchmark_with_validation_stream
from avalanche.benchmarks.scenarios import CLScenario, make_stream
from avalanche.benchmarks.scenarios.dataset_scenario import split_validation_class_balanced

# Of a benchmark in which each class comes once; iCaRL asks for them.
_KNOWN = ("n_classes", "n_classes_per_exp", "classes_order")


def held_out(benchmark: Any, share: float) -> CLScenario:
    """The benchmark with a share of every training experience's images, drawn class by class, in the place of its test
    stream: the same ones each time.

    Raises `ValueError` if an experience has no class with enough images to hold one out.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="stream generator will be converted")
        split = benchmark_with_validation_stream(benchmark, split_strategy=partial(_split, float(share)))
        judged = list(split.streams["valid"])
    empty = [number for number, experience in enumerate(judged) if len(experience.dataset) == 0]
    if empty:
        raise ValueError(
            f"validation is {share}, which holds out no image of experience {empty[0]}; its classes are too small"
        )
    # Everything else measures on the stream of this name.
    scenario = CLScenario([make_stream("train", list(split.streams["train"])), make_stream("test", judged)])
    for name in _KNOWN:
        if hasattr(benchmark, name):
            setattr(scenario, name, getattr(benchmark, name))
    for experience in scenario.train_stream:
        experience.benchmark = scenario  # iCaRL looks there
    return scenario


def _split(share: float, dataset: Any) -> tuple[Any, Any]:
    """The two parts of a data set. Avalanche asks twice, once for each of them, and its own split draws anew each time:
    what is held out in one answer would be trained on in the other."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        train, held = split_validation_class_balanced(share, dataset)
    return train, held
