"""How a strategy looks in a figure. All that the page asks of a row is asked here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..rows import ROWS, Row, colours

_FAMILIES = {"er": "er-count", "er+captioner": "er-count+captioner"}  # and the row whose look is the family's
_OURS = ("clts", "clts+captioner", "caption-replay")
_FRONT = (*_OURS, "joint", "captioner", "er", "er-count", "er-total", "ewc")
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
    """A CSS colour; grey for a strategy that is no longer known."""
    row = _row(strategy)
    return colours.GREY if row is None else row.colour


def look_of(strategy: str) -> Look:
    """Of a strategy, or of a family of them ("er")."""
    row = _row(strategy)
    line, marker = ("-", "o") if row is None else (row.line, row.marker)
    return Look(colour_of(strategy), line, marker, strategy in _OURS)


def description_of(strategy: str) -> str:
    """What the strategy is and what it keeps, in a phrase; nothing for one that is no longer known."""
    row = ROWS.get(strategy)
    return "" if row is None else f"{row.description}; it keeps {row.keeps}"


def _row(strategy: str) -> Row | None:
    return ROWS.get(_FAMILIES.get(strategy, strategy))


def in_front(strategies: Iterable[str]) -> list[str]:
    """Those that a reader looks for first: all of a few, and of many the bounds, the best known rivals and our own."""
    names = list(strategies)
    return names if len(names) <= _FEW else [name for name in names if name in _FRONT]
