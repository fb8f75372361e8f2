"""What a pair learns from: images with captions."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image


class Pool(NamedTuple):
    """Training images of a pair: `captions[i]` says what `images[i]` shows, `targets[i]` is its class."""

    images: list[Image.Image]
    captions: list[str]
    targets: list[int]
