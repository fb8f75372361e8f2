"""What a stream on the command line is described by, and how the text of its options is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Options = dict[str, Any]


@dataclass(frozen=True)
class StreamKind:
    """A kind of streams.

    **Arguments:**

    - description: what it is, in a sentence.
    - build: makes one, given the seed of its order, its options and the folder of downloaded data (or None).
    - options: how each option's text is read.
    - network: that a comparison uses by default, a key of `NETWORKS`; None: by the size of the images.
    - downloads: whether its data are looked for in the folder of downloaded data.
    - by_hand: what is to be put there by hand, where the network does not have it, or not for sure. None: nothing.
    - contents: a digest of its images, given its options, where they are the user's and may change. None: they are
        always the same.
    - template: how captions begin, from a captioner that is told the class. None: as with any stream.
    - pair: that a comparison uses by default, as `load_pair` takes it.
    """

    description: str
    build: Callable[[int, Options, Path | None], Any]
    options: dict[str, Callable[[str], Any]] = field(default_factory=dict)
    network: str | None = None
    downloads: bool = True
    by_hand: str | None = None
    contents: Callable[[Options], str] | None = None
    template: str | None = None
    pair: str = "embedded"


# What reads the text of an option: each raises `ValueError`, saying what to write, for anything else.


def fraction(text: str) -> tuple[int, int]:
    """Read "1/2" as (1, 2)."""
    which, _, parts = text.partition("/")
    if not (which.isdecimal() and parts.isdecimal() and 1 <= int(which) <= int(parts)):
        raise ValueError(f"part is {text!r}; write it as K/N with K from 1 to N, such as 1/2")
    return int(which), int(parts)


def size(text: str) -> int | tuple[int, int]:
    """Read "64" as 64 and "64x48" as (64, 48)."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    sides = [int(side) for side in found.groups() if side] if found else [0]
    if min(sides) < 1:
        raise ValueError("write it in pixels, as 64 or 64x48")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def share(text: str) -> float:
    """Read a number between 0 and 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise ValueError("write a share between 0 and 1, such as 0.2")
    return number


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("write a whole number of at least 1")
    return int(text)


def flag(text: str) -> bool:
    """Read "0" or "1"."""
    if text not in ("0", "1"):
        raise ValueError("write 0 or 1")
    return text == "1"


def one_of(*known: str) -> Callable[[str], str]:
    """What reads one of several words."""

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"it must be one of {', '.join(known)}")
        return text

    return read


def one_side_of(*known: int) -> Callable[[str], int]:
    """What reads one of several sides, in pixels."""

    def read(text: str) -> int:
        if text not in map(str, known):
            raise ValueError(f"write {', '.join(map(str, known[:-1]))} or {known[-1]}")
        return int(text)

    return read


def domains(text: str) -> list[str] | str:
    """Read "all", or "photo+sketch" as names."""
    names = text.split("+")
    if not all(names) or len(set(names)) < len(names):
        raise ValueError("write all, or names of folders, each once, such as photo+sketch")
    return text if text == "all" else names
