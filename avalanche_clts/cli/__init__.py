"""The command line: experiments, their report, training a pair, and captions and images for their own sake.

A module a group of commands, which says what their arguments are and makes the one call that each of them is. Modules
import what a command needs when it runs: help and refusals need no torch.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from .. import __version__
from . import experiments, pairs, parts, pretraining
from .wording import in_typed_words, is_about_typed

_DESCRIPTION = "Continual learning with text in the place of stored images (CLTS, arXiv 2409.17806)."


_UNREAD = 141  # as a shell has it of a program that the signal of a closed pipe has ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path is printed as it was typed, whatever its bytes
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # who reads the output has seen enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNREAD


def _run(argv: Sequence[str] | None) -> int:
    parser, commands = _parsers()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    _set_verbosity(arguments)
    command = commands[arguments.command]
    try:
        status: int = arguments.run(arguments)
    except BrokenPipeError:
        raise
    except (ValueError, OSError, ImportError, FloatingPointError, TypeError) as error:
        # What is typed may be of the wrong type; any other such error is one of the program.
        if isinstance(error, TypeError) and not is_about_typed(error, command, arguments):
            raise
        said = in_typed_words(error, command, arguments)
        print("\n  ".join([f"clts: {said}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nclts: interrupted; finished work is kept, the same command goes on from there", file=sys.stderr)
        return 130
    return status


def _set_verbosity(arguments: argparse.Namespace) -> None:
    from .._support.console import set_verbosity

    set_verbosity(arguments.verbosity)


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and that of each command."""
    parser = argparse.ArgumentParser(prog="clts", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"clts {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for group in (experiments, pairs, parts, pretraining):
        group.add_commands(commands)
    for each in (parser, *commands.choices.values()):
        _add_verbosity(each)
    parser.set_defaults(verbosity=0)
    return parser, commands.choices


def _add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Before or behind the command's name: what is not given here leaves be what is given there."""
    told = parser.add_mutually_exclusive_group()
    for flags, value, help in (
        (("-v", "--verbose"), 1, "tell more of what is going on"),
        (("-q", "--quiet"), -1, "tell nothing but results, warnings and errors"),
    ):
        told.add_argument(
            *flags, action="store_const", const=value, dest="verbosity", default=argparse.SUPPRESS, help=help
        )
