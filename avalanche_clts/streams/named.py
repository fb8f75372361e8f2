"""Streams by their names on the command line: the embedded ones, Avalanche's own, and any folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from avalanche.benchmarks.classic import (
    PermutedMNIST,
    RotatedMNIST,
    SplitCIFAR10,
    SplitCIFAR100,
    SplitFMNIST,
    SplitMNIST,
    SplitTinyImageNet,
)

from ..images.folders import folder_digest
from .benchmarks import split_digits, split_folder, split_shapes
from .core50 import SCENARIOS, core50

Options = dict[str, Any]
_ARGUMENT_OF = {"experiences": "n_experiences", "test": "test_share"}  # of what makes a benchmark, by option


@dataclass(frozen=True)
class StreamKind:
    """A kind of streams.

    **Arguments:**

    - description: what it is, in a sentence.
    - build: makes one, given the seed of its order, its options and the folder of downloaded data (or None).
    - options: how each option's text is read.
    - downloads: whether its data are downloaded.
    - contents: a digest of its images, given its options, where they are the user's and may change. None: they are
        always the same.
    - template: how captions begin, from a captioner that is told the class. None: as with any stream.
    - network: that a comparison uses by default, a key of `NETWORKS`; None: by the size of the images.
    """

    description: str
    build: Callable[[int, Options, Path | None], Any]
    options: dict[str, Callable[[str], Any]] = field(default_factory=dict)
    network: str | None = None
    downloads: bool = True
    contents: Callable[[Options], str] | None = None
    template: str | None = None


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
            if not STREAMS[self.kind].downloads:
                if isinstance(error, FileNotFoundError):
                    raise FileNotFoundError(f"stream is {self.name!r}; {error}") from None
                raise
            place = self.data_root or "Avalanche's default folder"
            raise OSError(
                f"the data of {self.name} are not in {place} and cannot be downloaded ({type(error).__name__}); "
                "download them where there is a network, by the same command, and give their folder with --data-root"
            ) from None


def _as_typed(message: str) -> str:
    """A message about an argument of a benchmark, by the name of the option that it was given as."""
    for option, argument in _ARGUMENT_OF.items():
        message = message.replace(f"{argument} is ", f"{option} is ")
    return message


def slug(stream: str) -> str:
    """The name of a stream as part of a file name: another one for each stream."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", stream).strip("-")
    if not stream.startswith("folder:"):
        return readable
    # Paths may differ in nothing but what a file name does not hold.
    return f"{readable}-{hashlib.sha256(stream.encode()).hexdigest()[:6]}"


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
        options["root"], parts = _folder_path(rest, kind.options)
        if not options["root"]:
            raise ValueError(f"stream is {text!r}; name the folder: folder:PATH")
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
    while "," in path and not Path(path).is_dir():
        before, _, last = path.rpartition(",")
        # What is no option is one that is misspelt, if it looks like one or if the path without it is there.
        if last.partition("=")[0] not in known and "=" not in last and not Path(before).is_dir():
            break
        path, options = before, [last, *options]
    return path, options


def fraction(text: str) -> tuple[int, int]:
    """Read "1/2" as (1, 2). Raises `ValueError` for anything else."""
    which, _, parts = text.partition("/")
    if not (which.isdecimal() and parts.isdecimal() and 1 <= int(which) <= int(parts)):
        raise ValueError(f"part is {text!r}; write it as K/N with K from 1 to N, such as 1/2")
    return int(which), int(parts)


def _size(text: str) -> int | tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    sides = [int(side) for side in found.groups() if side] if found else [0]
    if min(sides) < 1:
        raise ValueError("write it in pixels, as 64 or 64x48")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ValueError("write a share between 0 and 1, such as 0.2")
    return share


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("write a whole number of at least 1")
    return int(text)


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("write 0 or 1")
    return text == "1"


def _domains(text: str) -> list[str] | str:
    names = text.split("+")
    if not all(names) or len(set(names)) < len(names):
        raise ValueError("write all, or names of folders, each once, such as photo+sketch")
    return text if text == "all" else names


def _digits(seed: int, options: Options, data_root: Path | None) -> Any:
    return split_digits(options.get("experiences", 5), seed=seed)


def _shapes(seed: int, options: Options, data_root: Path | None) -> Any:
    return split_shapes(options.get("experiences", 10), seed=seed)


# The images of a folder are opened once for all runs of a comparison: they last as long as a benchmark of them does.
_LAST_FOLDER: list[Any] = []


def _folder(seed: int, options: Options, data_root: Path | None) -> Any:
    benchmark = split_folder(seed=seed, **{_ARGUMENT_OF.get(name, name): value for name, value in options.items()})
    _LAST_FOLDER[:] = [benchmark]
    return benchmark


def _folder_contents(options: Options) -> str:
    return folder_digest(options["root"])


def _classic(builder: Callable[..., Any], n_experiences: int) -> Callable[[int, Options, Path | None], Any]:
    def build(seed: int, options: Options, data_root: Path | None) -> Any:
        return builder(options.get("experiences", n_experiences), seed=seed, dataset_root=data_root)

    return build


def core50_run(seed: int) -> int:
    """Which of CORe50's ten fixed orders, its "runs", a seed has: the last is for searches, whose seeds are large."""
    return seed % 9 if seed < 1000 else 9


def _core50(seed: int, options: Options, data_root: Path | None) -> Any:
    scenario, mini = options.get("scenario", "nc"), options.get("size", 32) == 32
    return core50(scenario, core50_run(seed), mini=mini, root=data_root)


def _core50_size(text: str) -> int:
    if text not in ("32", "128"):
        raise ValueError("write 32 or 128")
    return int(text)


def _core50_scenario(text: str) -> str:
    if text not in SCENARIOS:
        raise ValueError(f"it must be one of {', '.join(SCENARIOS)}")
    return text


_DIGIT = "a handwritten digit {class_name}"
_EXPERIENCES: dict[str, Callable[[str], Any]] = {"experiences": _count}

STREAMS: dict[str, StreamKind] = {
    "digits": StreamKind(
        "Split Digits: 1,197 real handwritten digits, 8x8 grey, 10 classes in 5 experiences; offline",
        _digits,
        _EXPERIENCES,
        downloads=False,
        template=_DIGIT,
    ),
    "shapes": StreamKind(
        "Split Shapes: 5,000 drawings, 32x32 RGB, 20 classes in 10 experiences; offline",
        _shapes,
        _EXPERIENCES,
        downloads=False,
    ),
    "split-mnist": StreamKind(
        "Split MNIST: 28x28 grey, 5 experiences", _classic(SplitMNIST, 5), _EXPERIENCES, template=_DIGIT
    ),
    "split-fmnist": StreamKind(
        "Split Fashion-MNIST: 28x28 grey, 5 experiences", _classic(SplitFMNIST, 5), _EXPERIENCES
    ),
    "split-cifar10": StreamKind(
        "Split CIFAR-10: 32x32 RGB, 5 experiences", _classic(SplitCIFAR10, 5), _EXPERIENCES, "slim-resnet18"
    ),
    "split-cifar100": StreamKind(
        "Split CIFAR-100: 32x32 RGB, 10 experiences (or experiences=20)",
        _classic(SplitCIFAR100, 10),
        _EXPERIENCES,
        "slim-resnet18",
    ),
    "split-tiny-imagenet": StreamKind(
        "Split Tiny ImageNet: 64x64 RGB, 200 classes in 10 experiences",
        _classic(SplitTinyImageNet, 10),
        _EXPERIENCES,
    ),
    "permuted-mnist": StreamKind(
        "Permuted MNIST: domain-incremental, 5 experiences",
        _classic(PermutedMNIST, 5),
        _EXPERIENCES,
        template=_DIGIT,
    ),
    "rotated-mnist": StreamKind(
        "Rotated MNIST: domain-incremental, 5 experiences",
        _classic(RotatedMNIST, 5),
        _EXPERIENCES,
        template=_DIGIT,
    ),
    "core50": StreamKind(
        "CORe50: 50 objects in video, scenario=nc (or ni, nic, nicv2_79, ...), size=32 (or 128)",
        _core50,
        {"scenario": _core50_scenario, "size": _core50_size},
    ),
    "folder": StreamKind(
        "folder:PATH[,experiences=5][,domains=all][,size=64][,test=0.2][,part=1/2][,skip_damaged=1]: your images, a "
        "subfolder a class",
        _folder,
        {
            "experiences": _count,
            "domains": _domains,
            "size": _size,
            "test": _share,
            "part": fraction,
            "skip_damaged": _flag,
        },
        downloads=False,
        contents=_folder_contents,
    ),
}
