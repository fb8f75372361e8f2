"""The command line: experiments, their report, training a pair, and captions and images for their own sake.

A module a group of commands, which says what their arguments are and makes the one call that each of them is. Modules
import what a command needs when it runs: help and refusals need no torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .. import __version__
from . import experiments, pairs, parts, pretraining

_DESCRIPTION = "Continual learning with text in the place of stored images (CLTS, arXiv 2409.17806)."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        status: int = arguments.run(arguments)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print("\n  ".join([f"clts: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nclts: interrupted; finished work is kept, the same command goes on from there", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="clts", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"clts {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for group in (experiments, pairs, parts, pretraining):
        group.add_commands(commands)
    return parser
