"""Which images of a class are worth a caption."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

Selection = Literal["random", "diverse"]


def most_diverse(features: NDArray[Any], count: int, *, seed: int) -> list[int]:
    """Indices of `count` rows that stand for all of them: the row nearest to each centre of k-means.

    **Arguments:**

    - features: `(n, d)`, a row an image.
    - count: at most n.
    - seed: of the centres that k-means starts from.
    """
    if count >= len(features):
        return list(range(len(features)))
    distances = KMeans(count, n_init=1, random_state=seed).fit_transform(features)
    chosen: list[int] = []
    for column in distances.T:  # a row nearest to two centres serves one of them
        chosen.append(next(int(i) for i in np.argsort(column) if int(i) not in chosen))
    return chosen
