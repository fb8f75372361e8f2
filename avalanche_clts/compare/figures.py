"""The figures of a report, as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import mean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .results import MEMORY_KINDS, by_strategy
from .strategies import Results

# Colour says what kind of strategy it is, line style tells relatives apart.
_STYLES: dict[str, tuple[str, str]] = {
    "joint": ("#444444", "--"),
    "clts": ("#d1495b", "-"),
    "caption-replay": ("#edae49", "-"),
    "er-bytes": ("#9ecae1", "-"),
    "er-count": ("#4292c6", "-"),
    "er-63x": ("#2171b5", "--"),
    "er-total": ("#08306b", ":"),
    "ewc": ("#66a182", "-"),
    "lwf": ("#2e7d5b", "--"),
    "naive": ("#999999", ":"),
}
_GRID = "#e6e6e6"


def accuracy_curves(runs: Sequence[Results]) -> str:
    """Mean accuracy on the experiences seen so far, after each experience; bands of a standard deviation over seeds."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for strategy, group in by_strategy(runs).items():
        colour, line = _STYLES.get(strategy, ("#000000", "-"))
        seen = np.array([[mean(row[: i + 1]) for i, row in enumerate(run["accuracy_matrix"])] for run in group])
        if seen.shape[1] == 1:  # trained once, on everything
            axes.axhline(100 * mean(run["average_accuracy"] for run in group), color=colour, ls=line, label=strategy)
            continue
        x = np.arange(1, seen.shape[1] + 1)
        centre, width = 100 * seen.mean(0), 100 * seen.std(0, ddof=1 if len(seen) > 1 else 0)
        axes.plot(x, centre, color=colour, ls=line, lw=2, marker="o", ms=4, label=strategy)
        axes.fill_between(x, centre - width, centre + width, color=colour, alpha=0.15, lw=0)
        axes.set_xticks(x)
    axes.set_xlabel("experiences learnt")
    axes.set_ylabel("accuracy on the experiences so far (%)")
    axes.set_ylim(0, 102)
    _clean(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    return _svg(figure)


def memory_accuracy(runs: Sequence[Results]) -> str:
    """Average accuracy against all bytes kept between experiences, on a logarithmic axis."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for strategy, group in by_strategy(runs).items():
        if strategy == "joint":
            continue
        colour, _ = _STYLES.get(strategy, ("#000000", "-"))
        x = mean(sum(run["memory_bytes"][kind] for kind in MEMORY_KINDS) for run in group) / 1000
        y = 100 * mean(run["average_accuracy"] for run in group)
        axes.scatter([x], [y], color=colour, s=70, alpha=0.85, lw=0, zorder=3, label=strategy)
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    axes.set_xlabel("kept between experiences: captions, exemplars and networks (kB)")
    axes.set_ylabel("average accuracy (%)")
    axes.set_ylim(0, 102)
    _clean(axes)
    return _svg(figure)


def accuracy_matrix(group: Sequence[Results]) -> str:
    """The mean accuracy matrix of one strategy: rows are experiences learnt, columns experiences tested."""
    table = 100 * np.mean([run["accuracy_matrix"] for run in group], axis=0)
    rows, columns = table.shape
    figure = Figure(figsize=(0.42 * columns + 0.7, 0.42 * rows + 0.6), layout="constrained")
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
    axes.set_xticks(range(columns), [str(j + 1) for j in range(columns)], fontsize=8)
    axes.set_yticks(range(rows), [str(i + 1) for i in range(rows)] if rows > 1 else ["all"], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("tested", fontsize=8)
    axes.set_ylabel("learnt", fontsize=8)
    return _svg(figure)


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_GRID, lw=0.8)
    axes.set_axisbelow(True)


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
