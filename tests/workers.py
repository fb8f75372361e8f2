"""What worker processes are given to do: a process that imports no more than this begins at once."""

from __future__ import annotations

import os


def end_abruptly(threads: int) -> None:
    os._exit(1)
