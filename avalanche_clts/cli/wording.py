"""Errors in the words of the command line: by the options that were typed, not by the arguments that these become."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .._support.console import shown

# Arguments of the package that another option of the command line stands for.
_OPTION_OF = {"name_or_path": "pair", "hyperparameters": "set", "captioner": "set", "generator": "set"}
_IN_PYTHON = {'load_pair("embedded")': "--pair embedded"}
# Remedies of commands that have an option for the argument; those of a stream are spelt by the stream.
_REMEDIES = {"size": ("size=64 or size=(64, 48)", "--size 64"), "skip_damaged": ("skip_damaged=True", "--skip-damaged")}


def is_about_typed(error: BaseException, parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> bool:
    """Whether an error begins with the name of an argument that was typed, as one about its value does."""
    name = _first_name(str(error))
    return name is not None and name in _typed_names(parser, arguments)


def in_typed_words(error: BaseException, parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """The message of an error that a command ended in, which names the option that was typed, if it is about one.

    **Arguments:**

    - parser: the command's.
    - arguments: what it read.
    """
    message = str(error)
    for python, typed in _IN_PYTHON.items():
        message = message.replace(python, typed)
    for dest, (python, typed) in _REMEDIES.items():
        message = message.replace(python, typed) if hasattr(arguments, dest) else message
    name, names = _first_name(message), _typed_names(parser, arguments)
    if name in names:
        return f"{names[name]}{message[len(name) :].removeprefix('=')}"
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        message = f"{shown(error.filename)}: {error.strerror}"
    for action in _typed(parser, arguments):
        if not action.option_strings or action.option_strings[-1] in str(error):
            continue
        for value in _texts(getattr(arguments, action.dest)):
            if re.search(rf"(?<![\w.]){re.escape(value)}(?!\w)", message):
                option = action.option_strings[-1]
                return f"{option} {message}" if message.startswith(value) else f"{option} {value}: {message}"
    return message


def _first_name(message: str) -> str | None:
    found = re.match(r"(\w+)=? (?:is|has)\b", message)
    return None if found is None else found[1]


def _typed_names(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> dict[str, str]:
    """What was typed for each of the package's arguments, by its name."""
    names = {action.dest: _spoken(action) for action in _typed(parser, arguments)}
    for text in getattr(arguments, "set", []):
        option = text.partition("=")[0]
        names.setdefault(option.rpartition(".")[2], f"--set {option}")
    for text in _names_in_file(getattr(arguments, "config", None)):
        names.setdefault(text.rpartition(".")[2], f"{arguments.config}: {text}")
    return names | {name: names[dest] for name, dest in _OPTION_OF.items() if dest in names}


def _names_in_file(file: Path | None) -> Iterator[str]:
    """What the file of an experiment has for a pair and its parts."""
    if file is None:
        return
    from ..experiments.config import read_fields

    with suppress(ValueError, OSError):
        fields = read_fields(file)
        yield from (name for name in ("pair",) if name in fields)
        for table in ("captioner", "generator"):
            names = fields.get(table)
            yield from (f"{table}.{name}" for name in names) if isinstance(names, dict) else ()


def _typed(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Iterator[argparse.Action]:
    """The options, and the positional arguments, with another value than by default."""
    for action in parser._actions:
        if getattr(arguments, action.dest, action.default) not in (action.default, None):
            yield action


def _spoken(action: argparse.Action) -> str:
    return action.option_strings[-1] if action.option_strings else str(action.metavar)


def _texts(value: Any) -> Iterator[str]:
    """The texts and paths of an argument, which say more than a number does."""
    for part in value if isinstance(value, Sequence) and not isinstance(value, str) else [value]:
        if isinstance(part, (str, Path)) and len(str(part)) > 1:
            yield str(part)
