"""Shares in [0, 1] as coloured cells: accuracy matrices, the router's confusion, accuracy by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from ..rows import Results
from .svg import INK, axes_of, themed, to_svg

_BLUE = (0.16, 0.42, 0.78)
# From nothing to opaque: the page's own background, light or dark, is what a share of 0 looks like.
_CELLS = LinearSegmentedColormap.from_list("cells", [(*_BLUE, 0.03), (*_BLUE, 0.5), (*_BLUE, 1.0)])


def accuracy_matrix(group: Sequence[Results]) -> str:
    """The mean accuracy matrix of one strategy: rows are experiences learnt, columns experiences tested."""
    table = np.mean([run["accuracy_matrix"] for run in group], axis=0)
    rows = _numbered(len(table)) if len(table) > 1 else ["all"]
    label = f"Accuracy matrix of {group[0]['strategy']}"
    return _heat_map(table, rows, _numbered(table.shape[1]), "learnt", "tested", label)


def router_confusion(group: Sequence[Results], classes: Sequence[Sequence[str]] | None = None) -> str:
    """The mean shares of each experience's test inputs (rows) that go to each head (columns).

    **Arguments:**

    - classes: the names of each experience's classes, the same in all runs of `group`. None: experiences have numbers
        alone.
    """
    table = np.mean([run["router_confusion"] for run in group], axis=0)
    rows = _numbered(len(table))
    if classes is not None:
        rows = [f"{_few(names)}  {number}" for number, names in zip(rows, classes, strict=True)]
    label = f"Where the router of {group[0]['strategy']} sends the inputs of each experience"
    tested = "tested" if classes is None else ""
    return _heat_map(table, rows, _numbered(table.shape[1]), tested, "sent to", label)


def class_accuracy(variants: Sequence[dict[str, Any]], class_names: Sequence[str]) -> str:
    """The mean accuracy on each class: rows are variants, columns classes."""
    scores = [np.array([run["class_accuracy"] for run in variant["runs"]], float) for variant in variants]
    tested = ~np.isnan(scores[0]).any(0)  # some streams count classes that they have no image of
    table = np.array([of_variant[:, tested].mean(0) for of_variant in scores])
    names = [name for name, shown in zip(class_names, tested, strict=True) if shown]
    return _heat_map(table, [variant["label"] for variant in variants], names, "", "", "Accuracy by class")


def _numbered(count: int) -> list[str]:
    return [str(i + 1) for i in range(count)]


def _few(names: Sequence[str]) -> str:
    """Two names, and how many more there are: a line each."""
    more = [f"and {len(names) - 2} more"] if len(names) > 2 else []
    return "\n".join([*names[:2], *more])


@themed()
def _heat_map(
    shares: Any, row_names: Sequence[str], column_names: Sequence[str], row_label: str, column_label: str, label: str
) -> str:
    table = 100 * np.asarray(shares)
    rows, columns = table.shape
    widest = max(len(line) for name in row_names for line in name.splitlines())
    tallest = max(map(len, column_names))
    figure, axes = axes_of(0.4 * columns + 0.6 + 0.07 * widest, 0.4 * rows + 0.5 + 0.07 * tallest)
    shown = np.ma.masked_less(table, 0.5)  # a 0 needs no cell
    axes.pcolormesh(shown, cmap=_CELLS, vmin=0, vmax=100, lw=0, antialiased=False)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    for (i, j), share in np.ndenumerate(table):
        colour = "white" if share > 78 else INK
        axes.text(j + 0.5, i + 0.5, f"{share:.0f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(np.arange(columns) + 0.5, column_names, fontsize=8, rotation=90 if tallest > 2 else 0)
    axes.set_yticks(np.arange(rows) + 0.5, row_names, fontsize=7 if any("\n" in name for name in row_names) else 8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(column_label, fontsize=8)
    axes.set_ylabel(row_label, fontsize=8)
    return to_svg(figure, label)
