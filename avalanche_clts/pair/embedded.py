"""The pairs that ship with the package, and what they know."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_ASSETS = Path(__file__).parents[1] / "assets"


class EmbeddedPair(NamedTuple):
    """A pair in the package.

    **Arguments:**

    - folder: of the pair, as `load_pair` takes any other.
    - knows: the images that it has learnt to describe and to draw, in a phrase.
    """

    folder: Path
    knows: str


EMBEDDED: dict[str, EmbeddedPair] = {
    "embedded": EmbeddedPair(_ASSETS / "pair", "8x8 digits and drawn shapes"),
    "embedded-mnist-blood": EmbeddedPair(_ASSETS / "mnist-blood", "MNIST's digits and peripheral blood cells"),
}


def pair_folder(name: str) -> Path:
    """The folder of a pair that ships with the package; for any other text, the text as a path."""
    return EMBEDDED[name].folder if name in EMBEDDED else Path(name)
