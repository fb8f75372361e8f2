"""What another process, on whichever machine, must share with the one that asks for a run."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .runner import versions

# Of a process: the random numbers of all its threads are one sequence, and they are in one folder.
_at_work = threading.Lock()


@dataclass(frozen=True)
class Origin:
    """Where a run was asked for.

    **Arguments:**

    - folder: where the command was given: relative paths begin there.
    - versions: of what a result depends on.
    """

    folder: Path = field(default_factory=Path.cwd)
    versions: dict[str, str] = field(default_factory=versions)


@contextmanager
def as_at(origin: Origin, results: Path | None) -> Iterator[None]:
    """Be in the origin's folder, with its versions, and as the only thread of this process that does a run.

    **Arguments:**

    - results: a folder that must be there as well.

    Raises `FileNotFoundError` where this machine does not see a folder, and `ImportError` for other versions.
    """
    for folder in [origin.folder, *([] if results is None else [origin.folder / results])]:
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is not there on {this_machine()}; give the command in a folder, with --out in one, that "
                "every machine of the executor has under the same path"
            )
    here = versions()
    differing = [f"{name} {here[name]} (not {there})" for name, there in origin.versions.items() if here[name] != there]
    if differing:
        raise ImportError(f"{this_machine()} has {', '.join(differing)}; install the same versions on every machine")
    with _at_work:
        before = Path.cwd()
        os.chdir(origin.folder)
        try:
            yield
        finally:
            os.chdir(before)


def this_machine() -> str:
    """Its name."""
    return platform.node() or "another machine"
