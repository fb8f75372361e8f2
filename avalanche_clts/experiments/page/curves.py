"""Figures of strategies side by side: accuracy over experiences, and against memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from ..rows import Results
from ..runs.results import by_strategy
from .axes import graduate
from .looks import Look, in_front, look_of
from .memory_curve import areas, curve_families
from .svg import REST, axes_of, clean, themed, to_svg

_SIZE = (5.4, 3.9)  # inches: a figure that a telephone shows whole, since its legend is text of the page
_ALONE = (7.2, 5.0)
_OTHERS = "other rows of the table"


@dataclass(frozen=True)
class Entry:
    """A line of a legend: who, how it looks, and its figure in words."""

    name: str
    look: Look
    figure: str


@dataclass(frozen=True)
class Curves:
    """A figure and its legend. The curves of `rest` have the class of the same name, for a page to show on demand."""

    svg: str
    front: Sequence[Entry]
    rest: Sequence[Entry]


def accuracy_curves(runs: Sequence[Results]) -> Curves:
    """Mean accuracy on the experiences seen so far, after each experience; bands of a standard deviation over seeds.

    The legend has the best last accuracy first.
    """
    groups = _best_first(runs)
    front = in_front(groups)
    entries = [
        Entry(name, look_of(name), f"{100 * mean(run['average_accuracy'] for run in group):.1f}")
        for name, group in groups.items()
    ]
    return Curves(_draw_accuracy(groups, front, standalone=False), *_parted(entries, front))


def accuracy_figure(runs: Sequence[Results]) -> str:
    """The same as a file by itself, for a README: the curves that matter with their names, the rest pale behind."""
    groups = _best_first(runs)
    return _draw_accuracy(groups, in_front(groups), standalone=True)


@themed()
def _draw_accuracy(groups: dict[str, list[Results]], front: Sequence[str], *, standalone: bool) -> str:
    figure, axes = axes_of(*(_ALONE if standalone else _SIZE))
    others = _OTHERS
    for strategy, group in groups.items():
        look, shown = look_of(strategy), strategy in front
        pale = standalone and not shown
        options: dict[str, Any] = {"color": look.colour, "ls": look.line, "lw": look.width}
        if pale:
            options = {"color": "#8a8a8a", "ls": "-", "lw": 0.8, "alpha": 0.45}
        label, others = (others, "_hidden") if pale else (strategy, others)
        options |= {"label": label, "zorder": 5 if look.ours else 3 if shown else 2}
        gid = None if shown else f"{REST}-{strategy}"
        seen = np.array([[mean(row[: i + 1]) for i, row in enumerate(run["accuracy_matrix"])] for run in group])
        if seen.shape[1] == 1:  # trained once, on everything
            axes.axhline(100 * mean(run["average_accuracy"] for run in group), gid=gid, **options)
            continue
        x = np.arange(1, seen.shape[1] + 1)
        centre = 100 * seen.mean(0)
        axes.plot(x, centre, gid=gid, marker="" if pale else look.marker, ms=6 if look.ours else 4, **options)
        if len(seen) > 1 and not pale:
            width = 100 * seen.std(0, ddof=1)
            band = axes.fill_between(x, centre - width, centre + width, color=look.colour, alpha=0.1, lw=0)
            band.set_gid(gid)
        axes.set_xticks(x)
    axes.set_xlabel("experiences learnt")
    axes.set_ylabel("accuracy on the experiences so far (%)")
    axes.set_ylim(0, 102)
    clean(axes)
    if standalone:
        named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        named = {name: named[name] for name in sorted(named, key=lambda name: name == _OTHERS)}  # those come last
        figure.legend(named.values(), named, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return to_svg(figure, "Accuracy over experiences, a curve a strategy", standalone=standalone)


@themed()
def memory_accuracy(runs: Sequence[Results]) -> Curves:
    """Average accuracy against all bytes kept between experiences; budgets of a kind joined.

    The legend has the largest area under the curve first. Whose memory is unknown is in neither.
    """
    figure, axes = axes_of(*_SIZE)
    areas_of = areas(runs)
    families = dict(sorted(curve_families(runs).items(), key=lambda item: -areas_of.get(item[0], 0.0)))
    front = in_front(families)
    for family, points in families.items():
        look = look_of(family)
        x, y = [kept for kept, _ in points], [100 * accuracy for _, accuracy in points]
        gid = None if family in front else f"{REST}-{family}"
        options: dict[str, Any] = {"lw": look.width, "ls": look.line, "marker": look.marker or "o", "mew": 0}
        axes.plot(x, y, color=look.colour, ms=9 if look.ours else 7, zorder=5 if look.ours else 3, gid=gid, **options)
    _bytes_axis(axes, [kept for points in families.values() for kept, _ in points])
    axes.set_xlabel("kept between experiences: captions, exemplars, networks")
    axes.set_ylabel("average accuracy (%)")
    axes.set_ylim(0, 102)
    clean(axes)
    entries = [
        Entry(family, look_of(family), f"{100 * areas_of[family]:.0f}" if family in areas_of else "")
        for family in families
    ]
    return Curves(to_svg(figure, "Average accuracy against bytes kept"), *_parted(entries, front))


def _best_first(runs: Sequence[Results]) -> dict[str, list[Results]]:
    groups = by_strategy(runs).items()
    return dict(sorted(groups, key=lambda item: -mean(run["average_accuracy"] for run in item[1])))


def _parted(entries: Iterable[Entry], front: Sequence[str]) -> tuple[list[Entry], list[Entry]]:
    """Those in front, and the rest."""
    parts: tuple[list[Entry], list[Entry]] = ([], [])
    for entry in entries:
        parts[entry.name not in front].append(entry)
    return parts


def _bytes_axis(axes: Axes, kept: Sequence[float]) -> None:
    graduate(axes, kept)
    axes.xaxis.set_major_formatter(EngFormatter(unit="B"))
    axes.margins(x=0.1)
