"""Arguments are checked where they come in: each error names the argument, its value, and what it may be."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, get_args


def require_whole(name: str, value: Any, *, least: int = 1, none: str | None = None) -> None:
    """Raise `TypeError` or `ValueError` unless `value` is a whole number of at least `least`.

    **Arguments:**

    - none: what None stands for. None: it must not be None.
    """
    if value is None and none is not None:
        return
    allowed = f"it must be a whole number of at least {least}" + (f" (or None for {none})" if none is not None else "")
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; {allowed}")
    if value < least:
        raise ValueError(f"{name} is {value!r}; {allowed}")


def as_whole(name: str, value: Any, *, least: int = 1, none: str | None = None) -> Any:
    """`value` as Python's own whole number, where it is another's, such as numpy's; checked as by `require_whole`."""
    if value is not None and not isinstance(value, bool):
        with suppress(TypeError):
            value = operator.index(value)
    require_whole(name, value, least=least, none=none)
    return value


def require_share(name: str, value: Any) -> None:
    """Raise `TypeError` or `ValueError` unless `value` is a number from 0 to below 1."""
    allowed = "it must be a number from 0 to below 1, such as 0.2"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; {allowed}")
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value!r}; {allowed}")


def require_one_of(name: str, value: Any, literal: Any) -> None:
    """Raise `ValueError` unless `value` is one of the values of a `Literal`."""
    if value not in get_args(literal):
        known = ", ".join(map(repr, get_args(literal)))
        raise ValueError(f"{name} is {value!r}; it must be one of {known}")


def require_flag(name: str, value: Any) -> None:
    """Raise `TypeError` unless `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be True or False")


def require_names(name: str, value: Any) -> None:
    """Raise `TypeError` unless `value` is None or a sequence of texts; one text is not a sequence of them."""
    if value is None:
        return
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
        raise TypeError(f"{name} is {value!r}; it must be a sequence of texts, such as ['cat', 'dog']")


def require_path(name: str, value: Any, *, none: str | None = None) -> None:
    """Raise `TypeError` unless `value` is a path, or the name of a checkpoint.

    **Arguments:**

    - none: what None stands for. None: it must not be None.
    """
    if not isinstance(value, (str, os.PathLike)) and not (value is None and none is not None):
        told = f" (or None for {none})" if none is not None else ""
        raise TypeError(f"{name} is {value!r}; it must be a folder, or a repository on the hub{told}")


def require_method(name: str, value: Any, method: str, instead: str) -> None:
    """Raise `TypeError` unless `value` has a method of that name.

    **Arguments:**

    - instead: what to give, for the message.
    """
    if not callable(getattr(value, method, None)):
        raise TypeError(f"{name} is {value!r}, which has no {method}(); give {instead}")


def require_kind(name: str, value: Any, kind: type, instead: str) -> None:
    """Raise `TypeError` unless `value` is an instance of `kind`.

    **Arguments:**

    - instead: what to give, for the message.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} is a {type(value).__name__}, not a {kind.__name__}; give {instead}")
