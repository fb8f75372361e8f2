"""The 1,797 real handwritten digits of scikit-learn, divided once and for all between the pair and the stream.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository
(CC BY 4.0), as `sklearn.datasets.load_digits` ships it: 8x8 pixels, 17 grey levels.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from ..images.formats import LabelledImages

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PAIR_IMAGES_PER_CLASS = 60
_TEST_EVERY = 3  # of each class's images in the stream, one in three is a test image


def pair_digits() -> LabelledImages:
    """The 600 digits (60 a class) that the embedded pair is trained on. No stream ever shows them."""
    return _digits(_pair_indices())


def stream_digits() -> tuple[LabelledImages, LabelledImages]:
    """The other 1,197 digits, 801 to train on and 396 to test on, as they are: 8x8, grey (mode "L").

    The pair has never seen them.
    """
    reserved = set(_pair_indices())
    seen = [0] * len(CLASS_NAMES)
    train: list[int] = []
    test: list[int] = []
    for index, target in enumerate(load_digits().target):
        if index not in reserved:
            (test if seen[target] % _TEST_EVERY == _TEST_EVERY - 1 else train).append(index)
            seen[target] += 1
    return _digits(train), _digits(test)


def _pair_indices() -> list[int]:
    # Evenly spaced within each class: the data set is ordered by writer, so both parts hold every writer's hand, and
    # no random generator whose stream might change between versions has a say in it.
    targets = load_digits().target
    chosen: list[int] = []
    for label in range(10):
        of_class = np.flatnonzero(targets == label)
        chosen += of_class[np.linspace(0, len(of_class) - 1, PAIR_IMAGES_PER_CLASS).round().astype(int)].tolist()
    return chosen


def _digits(indices: list[int]) -> LabelledImages:
    data = load_digits()
    pixels = (data.images[indices] * (255 / 16)).round().astype(np.uint8)
    return LabelledImages([Image.fromarray(p) for p in pixels], [int(data.target[i]) for i in indices])
