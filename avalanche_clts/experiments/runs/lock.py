"""One run at a time in a folder, and none in a folder that is no longer there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


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
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        file = (folder / "runs" / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror}); choose another folder with --out") from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                other = file.read().strip() or "another process"
                raise OSError(
                    f"{folder} is in use by {other}; wait until it has ended, or choose another folder with --out"
                ) from None
            except OSError:  # a file system without locks: better unprotected than not at all
                pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename if hasattr(os, 'uname') else 'this machine'}")
        file.flush()
        yield
