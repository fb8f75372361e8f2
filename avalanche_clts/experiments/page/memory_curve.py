"""Accuracy against memory, independent of any one budget (Zhou et al., "A Model or 603 Exemplars", ICLR 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean

from ..rows import ROWS, Results
from ..runs.results import MEMORY_KINDS, by_strategy


def curve_families(runs: Sequence[Results]) -> dict[str, list[tuple[float, float]]]:
    """Points (bytes kept between experiences, average accuracy), in increasing order of bytes, by family.

    Class-balanced replay at its several budgets is one family, "er"; every other strategy is one by itself. Strategies
    whose memory is not known have no point.
    """
    families: dict[str, list[tuple[float, float]]] = {}
    unknown = of_unknown_memory(runs)
    for strategy, group in by_strategy(runs).items():
        if _keeps_stream(strategy) or strategy in unknown:
            continue
        kept = mean(sum(run["memory_bytes"][kind] for kind in MEMORY_KINDS) for run in group)
        accuracy = mean(run["average_accuracy"] for run in group)
        family = (ROWS[strategy].family if strategy in ROWS else "") or strategy
        families.setdefault(family, []).append((kept, accuracy))
    return {family: sorted(points) for family, points in families.items()}


def of_unknown_memory(runs: Sequence[Results]) -> list[str]:
    """The strategies that keep something whose bytes are not known."""
    return [
        strategy
        for strategy, group in by_strategy(runs).items()
        if not _keeps_stream(strategy)
        and any(run["memory_bytes"][kind] is None for run in group for kind in MEMORY_KINDS)
    ]


def _keeps_stream(strategy: str) -> bool:
    """Whether no budget is the strategy's."""
    return strategy in ROWS and ROWS[strategy].keeps_stream


def areas(runs: Sequence[Results]) -> dict[str, float]:
    """Area under each family's curve of the accuracy that it reaches within a budget, the largest first.

    The budget runs over the whole range of the comparison, from the smallest to the largest memory of any strategy, on
    a logarithmic axis whose length is 1; below a family's smallest memory its accuracy counts as 0. A value in [0, 1].
    Empty where all strategies keep equally much.
    """
    families = curve_families(runs)
    budgets = [kept for points in families.values() for kept, _ in points]
    if not budgets or min(budgets) <= 0 or min(budgets) == max(budgets):
        return {}
    low, high = math.log(min(budgets)), math.log(max(budgets))
    found = {}
    for family, points in families.items():
        area, best = 0.0, 0.0
        for i, (kept, accuracy) in enumerate(points):
            best = max(best, accuracy)
            until = math.log(points[i + 1][0]) if i + 1 < len(points) else high
            area += best * (until - math.log(kept))
        found[family] = area / (high - low)
    return dict(sorted(found.items(), key=lambda item: -item[1]))
