"""Figures as SVG that takes its colours from the page around it, light or dark."""

from __future__ import annotations

import hashlib
import html
import io
import re
from contextlib import ContextDecorator
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

REST = "rest"  # what starts the gid of curves that a page shows on demand: they get this class
INK = "#010101"  # stands for the page's text colour
FAINT = "#020202"  # and for that of its lines
_THEME: Any = {
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.hashsalt": "avalanche-clts",  # the same figure is the same text
}
# A file by itself has no page to take colours from.
_STANDALONE = """<style>
svg { color: #24292f; background: #fff; --line: #d8dee4; }
@media (prefers-color-scheme: dark) { svg { color: #e6edf3; background: #0d1117; --line: #3a424c; } }
</style>"""


def themed() -> ContextDecorator:
    """A decorator of functions that draw."""
    return rc_context(_THEME)


def axes_of(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches, with axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def clean(axes: Axes) -> None:
    """Leave nothing but a grid, two axes and the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid()
    axes.set_axisbelow(True)


def to_svg(figure: Figure, label: str, *, standalone: bool = False) -> str:
    """The figure as an `<svg>` element.

    **Arguments:**

    - label: what it shows, for those who do not see it.
    - standalone: whether it is a file by itself, rather than part of a page that has the colour `--line`.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace(INK, "currentColor").replace(FAINT, "var(--line)")
    text = re.sub(rf'id="{REST}[^"]*"', f'class="{REST}"', text)
    # Several figures share a page, where an id must be one's own.
    own = hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'\bid="([^"]*)"', rf'id="{own}-\1"', text)
    text = re.sub(r'href="#|url\(#', lambda found: f"{found[0]}{own}-", text)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)
    return re.sub(r"(<svg [^>]*>)", lambda found: found[1] + _STANDALONE, text, count=1) if standalone else text
