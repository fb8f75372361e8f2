"""How long a long piece of work will take, told once its first batch is done."""

from __future__ import annotations

import time
from typing import Any

from tqdm import tqdm

from .._support.console import begin

_LONG = 60  # seconds, from which on it is told


class Estimate:
    """Counts what is done, and tells once how long all of it takes, if that is long and no bar shows it.

    **Arguments:**

    - what: is worked on, such as "generating 5,000 images".
    - total: of the items to do.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._began = time.perf_counter()
        self._told = False

    def done(self, bar: tqdm[Any], count: int) -> None:
        """A batch of `count` items is done; its bar moves."""
        bar.update(count)
        if self._told:
            return
        self._told = True
        seconds = (time.perf_counter() - self._began) * self._total / count
        if seconds >= _LONG:
            begin(f"{self._what}: about {round(seconds / 60)} min")
