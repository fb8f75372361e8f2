"""Images as rows of numbers, and how far apart they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.float32]
_AT_ONCE = 1 << 26  # distances in memory


def pixels_of(images: Sequence[Image.Image]) -> Pixels:
    """Values in [0, 1], `(n, height x width x channels)`; the images are of one size and mode."""
    rows: Pixels = np.stack([np.asarray(image, dtype=np.float32).ravel() for image in images]) / np.float32(255)
    return rows


def nearest(queries: Pixels, others: Pixels, *, skip_self: bool = False) -> NDArray[np.float64]:
    """Root mean square difference of each query to the nearest of the others, `(n,)`.

    **Arguments:**

    - skip_self: whether the two are the same images, each of which is then not its own nearest.
    """
    lengths = np.square(others).sum(1)
    found = []
    rows = max(1, _AT_ONCE // len(others))
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows]
        squares = lengths - 2 * block @ others.T  # of distances, but for the block's own lengths
        if skip_self:
            own = np.arange(len(block))
            squares[own, start + own] = np.inf
        # Of the nearest alone, exactly: the difference above loses what is equal.
        found.append(np.sqrt(np.square(block.astype(np.float64) - others[squares.argmin(1)]).mean(1)))
    return np.concatenate(found)
