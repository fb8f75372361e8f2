"""One command at a time in a folder, one process at a time in a run, and none in a folder that is no longer there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock

from ..._support.locks import held


def require_still_there(folder: Path) -> None:
    """Raise `OSError` if a folder that was there has vanished: made anew, it would hide the finished runs."""
    if not folder.is_dir():
        raise OSError(
            f"{folder} has vanished; bring it back and repeat the command: runs that it holds are not computed again"
        )


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep other commands out of `folder` for as long as the context lasts; see `held`."""
    with held(folder / "runs" / ".lock", folder, leave=True):
        yield


@contextmanager
def alone(unfinished: Path | None) -> Iterator[None]:
    """Wait until no other process does the run whose checkpoints are in a folder, and keep others out. None: there are
    no checkpoints."""
    with nullcontext() if unfinished is None else FileLock(_beside(unfinished)):
        yield


def remove(unfinished: Path) -> None:
    """Remove the checkpoints of a run that is finished."""
    shutil.rmtree(unfinished, ignore_errors=True)
    with suppress(OSError):
        _beside(unfinished).unlink()


def _beside(unfinished: Path) -> Path:
    return unfinished.with_name(f"{unfinished.name}.lock")
