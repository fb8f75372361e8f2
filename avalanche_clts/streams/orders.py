"""Which classes the experiences of a benchmark hold, and in which order they come."""

from __future__ import annotations

from typing import Any


def num_classes(benchmark: Any) -> int:
    """Outputs of a classifier for all experiences: 1 + the largest class id. Avalanche's `n_classes` is larger where
    every experience holds the same classes: it counts them anew in each."""
    streams = (benchmark.train_stream, benchmark.test_stream)
    return 1 + max(max(e.classes_in_this_experience) for stream in streams for e in stream)


def has_disjoint_experiences(benchmark: Any) -> bool:
    """Whether each class comes in one experience alone."""
    classes = [set(experience.classes_in_this_experience) for experience in benchmark.train_stream]
    return sum(map(len, classes)) == len(set.union(*classes))


def order_of(benchmark: Any) -> list[tuple[list[int], int]]:
    """Of each experience, in the order they come: its classes, and how many images it has, as domains have each."""
    return [(sorted(e.classes_in_this_experience), len(e.dataset)) for e in benchmark.train_stream]
