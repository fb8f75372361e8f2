"""Images as rows of numbers, and how far apart they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.float32]


def pixels_of(images: Sequence[Image.Image]) -> Pixels:
    """Values in [0, 1], `(n, height x width x channels)`; the images are of one size and mode."""
    rows: Pixels = np.stack([np.asarray(image, dtype=np.float32).ravel() for image in images]) / np.float32(255)
    return rows


def nearest(queries: Pixels, others: Pixels, *, skip_self: bool = False) -> NDArray[np.float64]:
    """Root mean square difference of each query to the nearest of the others, `(n,)`.

    **Arguments:**

    - skip_self: whether the two are the same images, each of which is then not its own nearest.
    """
    squares = np.square(queries).sum(1)[:, None] + np.square(others).sum(1) - 2 * queries @ others.T
    if skip_self:
        np.fill_diagonal(squares, np.inf)
    best = squares.argmin(1)
    # Of the nearest alone, exactly: the sum above loses what is equal.
    return np.sqrt(np.square(queries.astype(np.float64) - others[best]).mean(1))
