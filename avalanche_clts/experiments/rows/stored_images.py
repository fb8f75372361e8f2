"""What text replay does without: a pair whose captions are the numbers of stored images."""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image

from ...pair.abilities import Autoencodes
from ...pair.loading import Pair


class _Store:
    """Captioner and generator at once; the router may be shown what the pair's generator would make of its images."""

    def __init__(self, pair: Pair) -> None:
        self.images: list[Image] = []
        if isinstance(pair.generator, Autoencodes):
            self.autoencode = pair.generator.autoencode

    def caption(self, images: Sequence[Image], class_names: Sequence[str] | None = None) -> list[str]:
        first = len(self.images)
        self.images += [image.convert("RGB") for image in images]
        return [str(first + i) for i in range(len(images))]

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image]:
        return [self.images[int(prompt)] for prompt in prompts]


def stored_images(pair: Pair) -> Pair:
    """In the place of `pair`, one that remembers real images. For comparison only: it keeps what this library is there
    not to keep."""
    store = _Store(pair)
    return Pair(store, store)
