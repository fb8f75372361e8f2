"""Streams by their names on the command line: the embedded ones, Avalanche's own, and any folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..images.folders import folder_digest, require_folder
from .blood import MEDICAL
from .classic import CLASSIC, DIGIT
from .kinds import Options, StreamKind, count, domains, flag, fraction, share, size
from .sized import SIZED

_IN_PYTHON = {"size=(64, 48)": "size=64x48", "skip_damaged=True": "skip_damaged=1"}  # how remedies are spelt
_ARGUMENT_OF = {"experiences": "n_experiences", "test": "test_share"}  # of what makes a benchmark, by option


@dataclass(frozen=True)
class Stream:
    """A stream as named on the command line.

    **Arguments:**

    - name: the whole name, such as "shapes:experiences=20".
    - kind: a key of `STREAMS`.
    - options: as its kind takes them.
    - data_root: folder of downloaded data. None: Avalanche's default.
    """

    name: str
    kind: str
    options: Options
    data_root: Path | None = None

    @cached_property
    def contents(self) -> str | None:
        """A digest of its images, where they are the user's; None where the name says which they are."""
        digest = STREAMS[self.kind].contents
        return None if digest is None else digest(self.options)

    def require_there(self) -> None:
        """Raise `FileNotFoundError`, as `build` does, for a folder of images that is not there; nothing is loaded."""
        if "root" in self.options:
            try:
                require_folder(self.options["root"])
            except FileNotFoundError as error:
                raise FileNotFoundError(f"stream is {self.name!r}; {error}") from None

    def build(self, seed: int) -> Any:
        """The benchmark, with its experiences in the order that `seed` gives.

        Raises `OSError`, in one line, if its data are neither there nor to be downloaded, and `ValueError` for options
        that do not fit them.
        """
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # Avalanche's remarks on downloading
                return STREAMS[self.kind].build(seed, self.options, self.data_root)
        except ValueError as error:
            raise ValueError(f"stream is {self.name!r}; {_as_typed(str(error))}") from error
        except (OSError, RuntimeError) as error:
            kind = STREAMS[self.kind]
            if not kind.downloads:
                if isinstance(error, FileNotFoundError):
                    raise FileNotFoundError(f"stream is {self.name!r}; {error}") from None
                raise
            remedy = "download them where there is a network, by the same command"
            if kind.by_hand is not None:
                remedy = f"put {kind.by_hand} into a folder"
            raise OSError(
                f"the data of {self.name} are not in {self.data_root or 'their default folder'} and cannot be "
                f"downloaded ({type(error).__name__}); {remedy}, and give their folder with --data-root"
            ) from None


def _as_typed(message: str) -> str:
    """A message about an argument of a benchmark, by the name of the option that it was given as, in its spelling."""
    for python, typed in _IN_PYTHON.items():
        message = message.replace(python, typed)
    for option, argument in _ARGUMENT_OF.items():
        message = message.replace(f"{argument} is ", f"{option} is ")
    return message


def slug(stream: str) -> str:
    """The name of a stream as part of a file name: another one for each stream."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", stream).strip("-")
    if not stream.startswith("folder:"):
        return readable
    # Paths may differ in nothing but what a file name does not hold.
    return f"{readable}-{hashlib.sha256(os.fsencode(stream)).hexdigest()[:6]}"


def parse_stream(text: str, data_root: Path | None = None) -> Stream:
    """The stream that `text` names: NAME or NAME:option=value,... (for folders, folder:PATH,option=value,...).

    A path may hold commas: options are read from the right. One that ends like an option is put in quotation marks:
    `folder:"photos,size=32",size=64`.

    Raises `ValueError`, listing what is known, for an unknown name or option.
    """
    name, _, rest = text.partition(":")
    if name not in STREAMS:
        raise ValueError(f"stream is {text!r}; known streams: {', '.join(STREAMS)}")
    kind = STREAMS[name]
    options: Options = {}
    parts = rest.split(",") if rest else []
    if name == "folder":
        path, parts = _folder_path(rest, kind.options)
        if not path:
            raise ValueError(f"stream is {text!r}; name the folder: folder:PATH")
        options["root"] = _expanded(path)
    for part in parts:
        key, _, value = part.partition("=")
        if key not in kind.options:
            known = ", ".join(f"{name}=..." for name in kind.options) or "none"
            raise ValueError(f"stream is {text!r}; {name} has no option {key!r}; its options: {known}")
        if key in options:
            raise ValueError(f"stream is {text!r}; it has the option {key} twice")
        try:
            options[key] = kind.options[key](value)
        except ValueError as error:
            raise ValueError(f"stream is {text!r}; {value!r} is no value for the option {key}; {error}") from None
    return Stream(text, name, options, data_root)


def _folder_path(text: str, known: Iterable[str]) -> tuple[str, list[str]]:
    """The path at the beginning of `text`, and the options behind it."""
    if text[:1] in ('"', "'") and text[0] in text[1:]:
        path, _, rest = text[1:].partition(text[0])
        return path, rest.removeprefix(",").split(",") if rest else []
    path, options = text, list[str]()
    while "," in path and not Path(_expanded(path)).is_dir():
        before, _, last = path.rpartition(",")
        # What is no option is one that is misspelt, if it looks like one or if the path without it is there.
        if last.partition("=")[0] not in known and "=" not in last and not Path(_expanded(before)).is_dir():
            break
        path, options = before, [last, *options]
    return path, options


def _expanded(path: str) -> str:
    """The path with "~" as the home folder: no shell writes it out behind a colon."""
    return str(Path(path).expanduser()) if path.partition("/")[0] == "~" else path


def _digits(seed: int, options: Options, data_root: Path | None) -> Any:
    from .benchmarks import split_digits

    return split_digits(options.get("experiences", 5), seed=seed)


def _shapes(seed: int, options: Options, data_root: Path | None) -> Any:
    from .benchmarks import split_shapes

    return split_shapes(options.get("experiences", 10), seed=seed)


# The images of a folder are opened once for all runs of a comparison: they last as long as a benchmark of them does.
_LAST_FOLDER: list[Any] = []


def _folder(seed: int, options: Options, data_root: Path | None) -> Any:
    from .benchmarks import split_folder

    benchmark = split_folder(seed=seed, **{_ARGUMENT_OF.get(name, name): value for name, value in options.items()})
    _LAST_FOLDER[:] = [benchmark]
    return benchmark


def _folder_contents(options: Options) -> str:
    return folder_digest(options["root"])


_EXPERIENCES: dict[str, Callable[[str], Any]] = {"experiences": count}

STREAMS: dict[str, StreamKind] = {
    "digits": StreamKind(
        "Split Digits: 1,197 real handwritten digits, 8x8 grey, 10 classes in 5 experiences; offline",
        _digits,
        _EXPERIENCES,
        downloads=False,
        template=DIGIT,
    ),
    "shapes": StreamKind(
        "Split Shapes: 5,000 drawings, 32x32 RGB, 20 classes in 10 experiences; offline",
        _shapes,
        _EXPERIENCES,
        downloads=False,
    ),
    **CLASSIC,
    **MEDICAL,
    **SIZED,
    "folder": StreamKind(
        "folder:PATH[,experiences=5][,domains=all][,size=64][,test=0.2][,part=1/2][,skip_damaged=1]: your images, a "
        "subfolder a class",
        _folder,
        {
            "experiences": count,
            "domains": domains,
            "size": size,
            "test": share,
            "part": fraction,
            "skip_damaged": flag,
        },
        downloads=False,
        contents=_folder_contents,
    ),
}
