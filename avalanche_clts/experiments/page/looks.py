"""How a strategy looks in a figure. All that the page asks of a row is asked here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..rows.strategies import STRATEGIES

# A family shares a hue. Every colour stands out from white and from near-black (3:1 at least): pages have both.
_GREY, _RED, _ORANGE, _GREEN, _PINK, _TEAL = "#808080", "#dc3a52", "#cd7600", "#2f9059", "#c2499d", "#1f8f97"
_BLUE, _LIGHT_BLUE, _VIOLET = "#3a76d8", "#4f94e8", "#8b62d9"
_COLOURS = {
    "joint": _GREY,
    "cumulative": _GREY,
    "naive": _GREY,
    "clts": _RED,
    "caption-replay": _ORANGE,
    "er": _BLUE,
    "er-bytes": _LIGHT_BLUE,
    "er-count": _BLUE,
    "er-63x": _LIGHT_BLUE,
    "er-total": _BLUE,
    "er-reservoir": _LIGHT_BLUE,
    "er-ace": _BLUE,
    "der++": _VIOLET,
    "gdumb": _VIOLET,
    "icarl": _VIOLET,
    "generative-replay": _PINK,
    "expert-gate": _TEAL,
    "ewc": _GREEN,
    "lwf": _GREEN,
    "si": _GREEN,
}
# Line and marker tell the members of a family apart.
_LINES = {
    "joint": ("--", ""),
    "cumulative": ("-", "s"),
    "naive": (":", "o"),
    "caption-replay": ("-", "D"),
    "er-bytes": ("-", "v"),
    "er-63x": ("--", "^"),
    "er-total": ("--", "s"),
    "er-reservoir": (":", "D"),
    "er-ace": (":", "P"),
    "gdumb": ("--", "s"),
    "icarl": (":", "^"),
    "expert-gate": ("--", "s"),
    "lwf": ("--", "s"),
    "si": (":", "^"),
}
_OURS = ("clts", "caption-replay")
_FRONT = (*_OURS, "joint", "er", "er-count", "er-total", "ewc", "naive")
_FEW = 8  # curves that one figure shows without crowding
_CSS_LINES = {"-": "solid", "--": "dashed", ":": "dotted"}
_GLYPHS = {"o": "●", "s": "■", "D": "◆", "v": "▼", "^": "▲", "P": "✚", "": ""}


@dataclass(frozen=True)
class Look:
    """A strategy's curve: matplotlib's line style and marker, and whether it is one of this package's own."""

    colour: str
    line: str
    marker: str
    ours: bool

    @property
    def width(self) -> float:
        """Of the line, in points."""
        return 2.6 if self.ours else 1.6

    @property
    def css_line(self) -> str:
        """The line as a `border-style`."""
        return _CSS_LINES[self.line]

    @property
    def glyph(self) -> str:
        """The marker as a character."""
        return _GLYPHS[self.marker]


def colour_of(strategy: str) -> str:
    """A CSS colour; grey for a strategy that has none."""
    return _COLOURS.get(strategy, _GREY)


def look_of(strategy: str) -> Look:
    """Of a strategy, or of a family of them ("er")."""
    line, marker = _LINES.get(strategy, ("-", "o"))
    return Look(colour_of(strategy), line, marker, strategy in _OURS)


def description_of(strategy: str) -> str:
    """What the strategy is, in a phrase; nothing for one that is no longer known."""
    return STRATEGIES[strategy].description if strategy in STRATEGIES else ""


def in_front(strategies: Iterable[str]) -> list[str]:
    """Those that a reader looks for first: all of a few, and of many the bounds, the best known rivals and our own."""
    names = list(strategies)
    return names if len(names) <= _FEW else [name for name in names if name in _FRONT]
