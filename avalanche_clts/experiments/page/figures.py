"""The figures of a report, as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator

from ..rows import Results
from ..runs.results import by_strategy
from .memory_curve import areas, curve_families

_CLTS = "#d1495b"
# Colour says what kind of strategy it is, line style tells relatives apart.
_STYLES: dict[str, tuple[str, str]] = {
    "joint": ("#444444", "--"),
    "cumulative": ("#777777", "-."),
    "clts": (_CLTS, "-"),
    "caption-replay": ("#edae49", "-"),
    "er-bytes": ("#9ecae1", "-"),
    "er-count": ("#4292c6", "-"),
    "er-63x": ("#2171b5", "--"),
    "er-total": ("#08306b", ":"),
    "er": ("#2171b5", "-"),
    "er-reservoir": ("#6baed6", "-."),
    "er-ace": ("#807dba", "-"),
    "der++": ("#54278f", "-"),
    "gdumb": ("#9e9ac8", "--"),
    "icarl": ("#c994c7", "-"),
    "generative-replay": ("#8c6d31", "-"),
    "expert-gate": ("#e7969c", "--"),
    "ewc": ("#66a182", "-"),
    "lwf": ("#2e7d5b", "--"),
    "si": ("#a1d99b", "-."),
    "naive": ("#999999", ":"),
}
_GRID = "#e6e6e6"
_NARROW = 4.8  # inches: a figure that a telephone shows whole


def accuracy_curves(runs: Sequence[Results]) -> str:
    """Mean accuracy on the experiences seen so far, after each experience; bands of a standard deviation over seeds."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    best_first = sorted(by_strategy(runs).items(), key=lambda item: -mean(r["average_accuracy"] for r in item[1]))
    for strategy, group in best_first:
        colour, line = _STYLES.get(strategy, ("#000000", "-"))
        seen = np.array([[mean(row[: i + 1]) for i, row in enumerate(run["accuracy_matrix"])] for run in group])
        if seen.shape[1] == 1:  # trained once, on everything
            axes.axhline(100 * mean(run["average_accuracy"] for run in group), color=colour, ls=line, label=strategy)
            continue
        x = np.arange(1, seen.shape[1] + 1)
        centre, width = 100 * seen.mean(0), 100 * seen.std(0, ddof=1 if len(seen) > 1 else 0)
        axes.plot(x, centre, color=colour, ls=line, lw=2, marker="o", ms=4, label=strategy)
        axes.fill_between(x, centre - width, centre + width, color=colour, alpha=0.1, lw=0)
        axes.set_xticks(x)
    axes.set_xlabel("experiences learnt")
    axes.set_ylabel("accuracy on the experiences so far (%)")
    axes.set_ylim(0, 102)
    _clean(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    return _svg(figure)


def memory_accuracy(runs: Sequence[Results]) -> str:
    """Average accuracy against all bytes kept between experiences; budgets of a kind joined."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    areas_of = areas(runs)
    families = sorted(curve_families(runs).items(), key=lambda item: -areas_of.get(item[0], 0.0))
    for family, points in families:
        colour, _ = _STYLES.get(family, ("#000000", "-"))
        x, y = [kept for kept, _ in points], [100 * accuracy for _, accuracy in points]
        label = f"{family}  {100 * areas_of[family]:.0f}" if family in areas_of else family
        axes.plot(x, y, color=colour, marker="o", ms=8, alpha=0.85, lw=1.5, mew=0, zorder=3, label=label)
    _graduate(axes, [kept for _, points in families for kept, _ in points])
    axes.xaxis.set_major_formatter(EngFormatter(unit="B"))
    axes.margins(x=0.1)
    title = "area under the curve (%)" if areas_of else None
    if families:  # upper bounds have no budget
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9, title=title)
    axes.set_xlabel("kept between experiences: captions, exemplars and networks")
    axes.set_ylabel("average accuracy (%)")
    axes.set_ylim(0, 102)
    _clean(axes)
    return _svg(figure)


def accuracy_matrix(group: Sequence[Results]) -> str:
    """The mean accuracy matrix of one strategy: rows are experiences learnt, columns experiences tested."""
    table = np.mean([run["accuracy_matrix"] for run in group], axis=0)
    rows = _numbered(len(table)) if len(table) > 1 else ["all"]
    return _heat_map(table, rows, _numbered(table.shape[1]), "learnt", "tested")


def router_confusion(group: Sequence[Results]) -> str:
    """The mean shares of each experience's test inputs (rows) that go to each head (columns)."""
    table = np.mean([run["router_confusion"] for run in group], axis=0)
    return _heat_map(table, _numbered(len(table)), _numbered(table.shape[1]), "tested", "sent to")


def class_accuracy(variants: Sequence[dict[str, Any]], class_names: Sequence[str]) -> str:
    """The mean accuracy on each class: rows are variants, columns classes."""
    scores = [np.array([run["class_accuracy"] for run in variant["runs"]], float) for variant in variants]
    tested = ~np.isnan(scores[0]).any(0)  # some streams count classes that they have no image of
    table = np.array([of_variant[:, tested].mean(0) for of_variant in scores])
    names = [name for name, shown in zip(class_names, tested, strict=True) if shown]
    return _heat_map(table, [variant["label"] for variant in variants], names, "", "")


def ablation(variants: Sequence[dict[str, Any]], x_label: str) -> str:
    """Average accuracy of the variants, mean and standard deviation over seeds; along an axis, where there is one."""
    scores = [[100 * run["average_accuracy"] for run in variant["runs"]] for variant in variants]
    colours = [_CLTS if variant["default"] else "#8a9bb0" for variant in variants]
    if not x_label:
        return _rows(scores, [variant["label"] for variant in variants], colours)
    in_bytes = x_label.startswith("bytes")
    x = [
        mean(run["memory_bytes"]["captions"] for run in variant["runs"]) if in_bytes else variant["x"]
        for variant in variants
    ]
    return _line(x, scores, [variant["label"] for variant in variants], colours, x_label, in_bytes)


def _rows(scores: Sequence[Sequence[float]], labels: Sequence[str], colours: Sequence[str]) -> str:
    """One row a variant, its label above it: the seeds as small dots, their mean and deviation as a large one."""
    figure = Figure(figsize=(_NARROW, 0.48 * len(scores) + 0.75), layout="constrained")
    axes = figure.add_subplot()
    for row, (values, label, colour) in enumerate(zip(scores, labels, colours, strict=True)):
        axes.plot(values, [row] * len(values), "o", ms=4, mew=0, color=colour, alpha=0.4)
        axes.errorbar(mean(values), row, xerr=_deviation(values), fmt="o", ms=8, lw=2, color=colour)
        axes.text(0, row - 0.24, label, transform=axes.get_yaxis_transform(), va="bottom", fontsize=9)
    lowest, highest = min(map(min, scores)), max(map(max, scores))
    margin = max(0.08 * (highest - lowest), (4 - highest + lowest) / 2, 0.2)  # no less than four points are shown
    axes.set_xlim(lowest - margin, highest + margin)
    axes.set_ylim(len(scores) - 0.6, -0.8)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], min_n_ticks=3))
    axes.set_xlabel("average accuracy (%)")
    _clean(axes)
    axes.spines["left"].set_visible(False)
    return _svg(figure)


def _line(
    x: Sequence[float],
    scores: Sequence[Sequence[float]],
    labels: Sequence[str],
    colours: Sequence[str],
    x_label: str,
    measured: bool,
) -> str:
    """The variants along an axis; where x is measured, each has its label beside it."""
    figure = Figure(figsize=(_NARROW, 3.0), layout="constrained")
    axes = figure.add_subplot()
    centre = [mean(values) for values in scores]
    axes.errorbar(x, centre, yerr=list(map(_deviation, scores)), color="#8a9bb0", lw=2, capsize=3, zorder=2)
    axes.scatter(x, centre, color=colours, s=45, zorder=3)
    for place, values, colour in zip(x, scores, colours, strict=True):
        axes.plot([place] * len(values), values, "o", ms=4, mew=0, color=colour, alpha=0.4)
    _graduate(axes, x)
    if measured:
        axes.xaxis.set_major_formatter("{x:,.0f}")
        at: dict[tuple[float, float], list[str]] = {}  # variants that make no difference share a place
        for place, height, label in zip(x, centre, labels, strict=True):
            at.setdefault((place, height), []).append(label)
        for point, there in at.items():
            axes.annotate(", ".join(there), point, (5, 5), textcoords="offset points", fontsize=8)
    else:
        axes.set_xticks(x, labels)
    axes.set_xlabel(x_label)
    axes.set_ylabel("average accuracy (%)")
    axes.margins(y=0.25)
    _clean(axes)
    return _svg(figure)


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _numbered(count: int) -> list[str]:
    return [str(i + 1) for i in range(count)]


def _heat_map(
    shares: Any, row_names: Sequence[str], column_names: Sequence[str], row_label: str, column_label: str
) -> str:
    """Shares in [0, 1] as coloured cells with their percentages."""
    table = 100 * np.asarray(shares)
    rows, columns = table.shape
    widest, tallest = max(map(len, row_names)), max(map(len, column_names))
    figure = Figure(
        figsize=(0.42 * columns + 0.6 + 0.07 * widest, 0.42 * rows + 0.5 + 0.07 * tallest), layout="constrained"
    )
    axes = figure.add_subplot()
    axes.imshow(table, cmap="Blues", vmin=0, vmax=100, aspect="equal")
    for i in range(rows):
        for j in range(columns):
            axes.text(
                j,
                i,
                f"{table[i, j]:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if table[i, j] > 60 else "#333333",
            )
    axes.set_xticks(range(columns), column_names, fontsize=8, rotation=90 if tallest > 2 else 0)
    axes.set_yticks(range(rows), row_names, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(column_label, fontsize=8)
    axes.set_ylabel(row_label, fontsize=8)
    return _svg(figure)


def _graduate(axes: Axes, x: Sequence[float]) -> None:
    """Make the x axis logarithmic where values are far apart. Its ticks are few and round either way."""
    lowest, highest = min(x, default=0), max(x, default=0)
    if highest > 4 * lowest > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest < 200 * lowest else (1,), numticks=7))
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_GRID, lw=0.8)
    axes.set_axisbelow(True)


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    with rc_context({"svg.hashsalt": "avalanche-clts"}):  # the same figure is the same text
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
