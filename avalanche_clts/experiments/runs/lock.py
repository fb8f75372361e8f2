"""One command at a time in a folder, one process at a time in a run, and none in a folder that is no longer there."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout


def require_still_there(folder: Path) -> None:
    """Raise `OSError` if a folder that was there has vanished: made anew, it would hide the finished runs."""
    if not folder.is_dir():
        raise OSError(
            f"{folder} has vanished; bring it back and repeat the command: runs that it holds are not computed again"
        )


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep other processes out of `folder` for as long as the context lasts; a process that dies lets go of it.

    Raises `OSError` if another process is in it, and where the folder cannot be written.
    """
    holder = folder / "runs" / ".holder"  # beside the lock, whose own content is the library's
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "runs" / ".lock", timeout=0)
        lock.acquire()
        holder.write_text(f"process {os.getpid()} on {platform.node() or 'this machine'}", encoding="utf-8")
    except Timeout:
        raise OSError(
            f"{folder} is in use by {_named(holder)}; wait until it has ended, or choose another folder with --out"
        ) from None
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror}); choose another folder with --out") from error
    try:
        yield
    finally:
        with suppress(OSError):  # the folder may have vanished
            holder.unlink()
        lock.release()


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


def _named(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"
