"""The parts of a pair on the command line, and the commands that fetch and check them."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add them to a parser's commands."""
    _add_fetch(commands)
    _add_check(commands)


def _add_fetch(commands: Any) -> None:
    parser = commands.add_parser("fetch", help="download what a pair loads, and nothing else, so that it works offline")
    parser.add_argument(
        "pair", nargs="?", metavar="PAIR", help="CAPTIONER+GENERATOR, such as blip+sd-turbo, or one of them alone"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say how large it is, and whether it can be had, and stop"
    )
    add_parts(parser)
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
    add_parts(parser)
    parser.set_defaults(run=_check)


def add_parts(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that take another captioner or generator than the pair's, and what they are made with."""
    add_names(parser)
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="PART.OPTION=VALUE",
        help="arguments of the captioner or generator, such as generator.autoencoder=madebyollin/taesd",
    )


def add_names(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that take another captioner or generator than the pair's."""
    for part, example in (("captioner", "smolvlm-256m"), ("generator", "stabilityai/sd-turbo")):
        parser.add_argument(
            f"--{part}",
            metavar="NAME",
            help=f"in the place of the pair's: a name of clts pairs, a repository or a folder, such as {example}",
        )


def pair_name(pair: str, arguments: argparse.Namespace) -> str:
    """The pair with the parts that a command line gives in the place of its own."""
    if arguments.captioner is None and arguments.generator is None:
        return pair
    from ..pair.loading import composed

    return composed(pair, arguments.captioner, arguments.generator)


def _fetch(arguments: argparse.Namespace) -> int:
    from ..pair.fetching import fetch

    given = [name for name in (arguments.captioner, arguments.generator) if name is not None]
    if arguments.pair is None and not given:
        raise ValueError("there is nothing to fetch; give PAIR, or --captioner or --generator")
    # A part alone is fetched alone.
    name = "+".join(given) if arguments.pair is None else pair_name(arguments.pair, arguments)
    chosen = arguments_of_parts(arguments.set)
    fetch(name, captioner=chosen["captioner"], generator=chosen["generator"], dry_run=arguments.dry_run)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    """The exit status is 1 if something looks wrong."""
    from ..pair.inspection import check

    chosen = arguments_of_parts(arguments.set)
    found = check(
        pair_name(arguments.pair, arguments),
        arguments.images,
        arguments.out,
        device=arguments.device,
        captioner=chosen["captioner"],
        generator=chosen["generator"],
        class_of=_classes_in(arguments.images),
    )
    for number, caption in enumerate(found.captions, 1):
        print(f"{number}. {caption}")
    print("\n".join(found.lines()))
    return 1 if found.faults else 0


def _classes_in(images: Sequence[Path]) -> dict[Path, str]:
    """The class names of the images in the only folder that is given, as a stream has them; none where it can be read
    as no stream."""
    from ..pair.prompts import words_of
    from ..streams.layouts import read_layout

    if len(images) != 1 or not images[0].is_dir():
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layout = read_layout(images[0])
    except (OSError, ValueError):
        return {}
    names = dict(zip(layout.train, words_of(list(layout.train), layout.words), strict=True))
    files = [item for split in (layout.train, layout.test or {}) for item in split.items()]
    return {Path(image.path): names[label] for label, images in files if label in names for image in images}


def is_of_part(text: str) -> bool:
    """Whether "generator.steps=2" or the like is for a part of the pair."""
    return text.removeprefix("pair.").partition(".")[0] in ("captioner", "generator")


def arguments_of_parts(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read "generator.steps=2", "pair.generator.steps=2" and the like; values are JSON, or else words.

    Raises `ValueError` for a text of another form.
    """
    found: dict[str, dict[str, Any]] = {"captioner": {}, "generator": {}}
    for text in texts:
        name, equals, value = text.partition("=")
        part, dot, option = name.removeprefix("pair.").partition(".")
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
