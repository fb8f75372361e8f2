"""What is printed while work goes on, and when: bars in a terminal, elsewhere a line a stage, with the time.

All of it goes to the standard error; what a command is asked for goes to the standard output. A script sees the same as
the command line.
"""

from __future__ import annotations

import os
import sys
import time
import unicodedata
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from tqdm import tqdm


class Verbosity(IntEnum):
    """How much is told of work that goes on. Warnings and errors are told always."""

    QUIET = -1
    NORMAL = 0
    VERBOSE = 1


_verbosity = Verbosity.NORMAL


def set_verbosity(verbosity: int) -> None:
    """How much this process tells from now on. A process that it starts is to be told as well."""
    global _verbosity
    _verbosity = Verbosity(verbosity)
    if _verbosity is Verbosity.QUIET:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when the hub's client is imported


def verbosity() -> Verbosity:
    """How much this process tells."""
    return _verbosity


def tell(text: str) -> None:
    """A line, above the bars: what was found, done or decided."""
    if _verbosity >= Verbosity.NORMAL:
        _line(text)


def begin(text: str) -> None:
    """A line for a stage that begins, where no bar shows it: outside a terminal."""
    if _verbosity >= (Verbosity.VERBOSE if _in_terminal() else Verbosity.NORMAL):
        _line(text)


def detail(text: str) -> None:
    """A line for those who ask for more."""
    if _verbosity >= Verbosity.VERBOSE:
        _line(text)


def bar(items: Iterable[Any] | None = None, **options: Any) -> tqdm[Any]:
    """A bar, or one that shows nothing outside a terminal or where nothing is to be told. **Arguments:** as tqdm's."""
    return tqdm(items, disable=True if _verbosity is Verbosity.QUIET else None, **options)


def shown(path: str | os.PathLike[str]) -> str:
    r"""A path for a message of one line: control characters as Python escapes them, "x\\ny.png"."""
    unprintable = ("Cc", "Cs", "Zl", "Zp")  # "Cs": bytes of names that are no text
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in unprintable else c for c in os.fspath(path))


def _in_terminal() -> bool:
    return sys.stderr.isatty()


def _line(text: str) -> None:
    prefix = "" if _in_terminal() else time.strftime("%Y-%m-%d %H:%M:%S ")
    tqdm.write(prefix + text, file=sys.stderr)
