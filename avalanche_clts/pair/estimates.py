"""How long a long piece of work will take, told once its first batch is done."""

from __future__ import annotations

import logging
import time
from typing import Any

from tqdm import tqdm

_logger = logging.getLogger("avalanche_clts")
_LONG = 60  # seconds, from which on it is told


class Estimate:
    """Counts what is done, and logs once, at INFO, how long all of it takes, if that is long.

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
            _logger.info("%s: about %d min", self._what, round(seconds / 60))
