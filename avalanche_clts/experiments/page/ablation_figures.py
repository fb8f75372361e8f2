"""The figure of an ablation: a row a variant, or a point a variant along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from matplotlib.ticker import MaxNLocator

from .axes import graduate, label_values
from .looks import colour_of
from .svg import axes_of, clean, themed, to_svg

WIDTH = 4.8  # inches: a figure that a telephone shows whole
_OTHER = "#7d8fa6"


@themed()
def ablation(variants: Sequence[dict[str, Any]], x_label: str) -> str:
    """Average accuracy of the variants, mean and standard deviation over seeds; along an axis, where there is one.

    Along an axis of bytes, variants whose bytes are unknown are left out.
    """
    in_bytes = x_label.startswith("bytes")
    if in_bytes:
        variants = [v for v in variants if all(run["memory_bytes"]["captions"] is not None for run in v["runs"])]
    scores = [[100 * run["average_accuracy"] for run in variant["runs"]] for variant in variants]
    colours = [colour_of("clts") if variant["default"] else _OTHER for variant in variants]
    labels = [variant["label"] for variant in variants]
    if not x_label or not variants:
        return _rows(scores, labels, colours)
    x = [
        mean(run["memory_bytes"]["captions"] for run in variant["runs"]) if in_bytes else variant["x"]
        for variant in variants
    ]
    return _line(x, scores, labels, colours, x_label, in_bytes)


def _rows(scores: Sequence[Sequence[float]], labels: Sequence[str], colours: Sequence[str]) -> str:
    """One row a variant, its label above it: the seeds as small dots, their mean and deviation as a large one."""
    figure, axes = axes_of(WIDTH, 0.48 * len(scores) + 0.75)
    for row, (values, label, colour) in enumerate(zip(scores, labels, colours, strict=True)):
        axes.plot(values, [row] * len(values), "o", ms=4, mew=0, color=colour, alpha=0.4)
        axes.errorbar(mean(values), row, xerr=_deviation(values), fmt="o", ms=8, lw=2, color=colour)
        axes.text(0, row - 0.24, label, transform=axes.get_yaxis_transform(), va="bottom", fontsize=9)
    lowest, highest = min(map(min, scores), default=0.0), max(map(max, scores), default=0.0)
    margin = max(0.08 * (highest - lowest), (4 - highest + lowest) / 2, 0.2)  # no less than four points are shown
    axes.set_xlim(lowest - margin, highest + margin)
    axes.set_ylim(len(scores) - 0.6, -0.8)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], min_n_ticks=3))
    axes.set_xlabel("average accuracy (%)")
    clean(axes)
    axes.spines["left"].set_visible(False)
    return to_svg(figure, "Average accuracy of each variant")


def _line(
    x: Sequence[float],
    scores: Sequence[Sequence[float]],
    labels: Sequence[str],
    colours: Sequence[str],
    x_label: str,
    measured: bool,
) -> str:
    """The variants along an axis; where x is measured, each has its label beside it."""
    figure, axes = axes_of(WIDTH, 3.0)
    centre = [mean(values) for values in scores]
    axes.errorbar(x, centre, yerr=list(map(_deviation, scores)), color=_OTHER, lw=2, capsize=3, zorder=2)
    axes.scatter(x, centre, color=colours, s=45, zorder=3)
    for place, values, colour in zip(x, scores, colours, strict=True):
        axes.plot([place] * len(values), values, "o", ms=4, mew=0, color=colour, alpha=0.4)
    graduate(axes, x)
    if measured:
        axes.xaxis.set_major_formatter("{x:,.0f}")
        at: dict[tuple[float, float], list[str]] = {}  # variants that make no difference share a place
        for place, height, label in zip(x, centre, labels, strict=True):
            at.setdefault((place, height), []).append(label)
        for point, there in at.items():
            axes.annotate(", ".join(there), point, (5, 5), textcoords="offset points", fontsize=8)
    else:
        label_values(axes, x, labels)
    axes.set_xlabel(x_label)
    axes.set_ylabel("average accuracy (%)")
    axes.margins(y=0.25)
    clean(axes)
    return to_svg(figure, f"Average accuracy against {x_label}")


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0
