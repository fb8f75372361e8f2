"""The axis of what varies: few ticks, and round ones."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator

_DECADES = 30  # largest over smallest, from which on a logarithm says more than it hides: a decade and a half


def graduate(axes: Axes, x: Sequence[float]) -> None:
    """Make the x axis logarithmic where values span decades. Its ticks are few and round either way."""
    lowest, highest = min(x, default=0), max(x, default=0)
    if lowest > 0 and highest >= _DECADES * lowest:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest < 200 * lowest else (1,), numticks=7))
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
