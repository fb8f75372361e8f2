"""The axis of what varies: few ticks, and round ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator

_DECADES = 20  # largest over smallest, from which on a logarithm says more than it hides
_ROOM = 0.07  # of the axis, that a label takes


def graduate(axes: Axes, x: Sequence[float]) -> None:
    """Make the x axis logarithmic where values span decades. Its ticks are few and round either way."""
    lowest, highest = min(x, default=0), max(x, default=0)
    if lowest > 0 and highest >= _DECADES * lowest:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest < 200 * lowest else (1,), numticks=7))
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))


def label_values(axes: Axes, x: Sequence[float], labels: Sequence[str]) -> None:
    """A tick at each of the increasing values, with its label where there is room for it."""
    places = np.log(x) if axes.get_xscale() == "log" else np.asarray(x, float)
    room = _ROOM * (places[-1] - places[0])
    shown: list[str] = []
    last = -np.inf
    for place, label in zip(places, labels, strict=True):
        fits = place - last >= room
        last = place if fits else last
        shown.append(label if fits else "")
    axes.set_xticks(x, shown)
