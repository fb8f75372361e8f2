"""One command at a time in a place; a process that dies lets go of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def held(lock: Path, place: Path, *, leave: bool = False) -> Iterator[None]:
    """Keep other processes out of `place` for as long as the context lasts.

    **Arguments:**

    - lock: a file for this alone; another beside it says who holds it.
    - place: file or folder, for messages.
    - leave: whether the file stays. Removed, another process may in the same instant lock what is no longer there.

    Raises `OSError` if another process is in it, and where the lock cannot be written.
    """
    kind = "folder" if place in lock.parents else "file"
    holder = lock.with_name(f"{lock.name}.holder")  # the content of the lock itself is the library's
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held_lock = FileLock(lock, timeout=0)
        held_lock.acquire()
        holder.write_text(f"process {os.getpid()} on {platform.node() or 'this machine'}", encoding="utf-8")
    except Timeout:
        raise OSError(
            f"{place} is in use by {_named(holder)}; wait until it has ended, or choose another {kind} with --out"
        ) from None
    except OSError as error:
        raise OSError(f"cannot write to {place} ({error.strerror}); choose another {kind} with --out") from error
    try:
        yield
    finally:
        for file in (holder, *(() if leave else (lock,))):
            with suppress(OSError):  # the folder may have vanished
                file.unlink()
        held_lock.release()


def _named(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"
