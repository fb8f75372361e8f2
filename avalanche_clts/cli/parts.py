"""The commands that fetch and check a pair: their arguments, and the one call that each is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add them to a parser's commands."""
    _add_fetch(commands)
    _add_check(commands)


def _add_fetch(commands: Any) -> None:
    parser = commands.add_parser("fetch", help="download what a pair loads, and nothing else, so that it works offline")
    parser.add_argument("pair", metavar="PAIR", help="CAPTIONER+GENERATOR, such as blip+sd-turbo, or one of them alone")
    parser.add_argument(
        "--dry-run", action="store_true", help="say how large it is, and whether it can be had, and stop"
    )
    _add_arguments_of_parts(parser)
    parser.set_defaults(run=_fetch)


def _add_check(commands: Any) -> None:
    parser = commands.add_parser("check", help="load a pair, and show what it makes of a few images")
    parser.add_argument("pair", metavar="PAIR", help="a name or a folder")
    parser.add_argument(
        "images",
        nargs="*",
        type=Path,
        metavar="IMAGE",
        help="files, and folders of them (default: some that come along)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("check.png"), metavar="FILE", help="the picture (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    _add_arguments_of_parts(parser)
    parser.set_defaults(run=_check)


def _add_arguments_of_parts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="PART.OPTION=VALUE",
        help="arguments of the captioner or generator, such as generator.autoencoder=madebyollin/taesd",
    )


def _fetch(arguments: argparse.Namespace) -> int:
    from ..pair.fetching import fetch

    chosen = arguments_of_parts(arguments.set)
    fetch(arguments.pair, captioner=chosen["captioner"], generator=chosen["generator"], dry_run=arguments.dry_run)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    """The exit status is 1 if something looks wrong."""
    from ..pair.inspection import check

    chosen = arguments_of_parts(arguments.set)
    found = check(
        arguments.pair,
        arguments.images,
        arguments.out,
        device=arguments.device,
        captioner=chosen["captioner"],
        generator=chosen["generator"],
    )
    for number, caption in enumerate(found.captions, 1):
        print(f"{number}. {caption}")
    print("\n".join(found.lines()))
    return 1 if found.faults else 0


def arguments_of_parts(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read "generator.steps=2" and the like; values are JSON, or else words.

    Raises `ValueError` for a text of another form.
    """
    found: dict[str, dict[str, Any]] = {"captioner": {}, "generator": {}}
    for text in texts:
        name, equals, value = text.partition("=")
        part, dot, option = name.partition(".")
        if not (equals and dot and option.isidentifier() and part in found):
            raise ValueError(
                f"--set is given {text!r}; write captioner.OPTION=VALUE or generator.OPTION=VALUE, such as "
                "generator.steps=2"
            )
        try:
            found[part][option] = json.loads({"True": "true", "False": "false", "None": "null"}.get(value, value))
        except ValueError:
            found[part][option] = value
    return found
