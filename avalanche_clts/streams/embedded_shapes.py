"""Procedurally drawn shapes: 20 kinds, in colour, at any size, tilt, texture and background; no file, no download.

An image is a function of its class and its seed alone; the pair and the stream draw with different seeds.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..images.formats import LabelledImages

SIDE = 32  # pixels
PAIR_SEED, STREAM_SEED = 0, 10**9  # the first seeds of the pair's images and of the stream's: they never meet
_TRAIN_PER_CLASS, _TEST_PER_CLASS = 200, 50
_DRAWN_AT = 4 * SIDE  # then reduced, for smooth edges

Point = tuple[float, float]
Outline = list[Point]
# Hue, saturation and value, each in [0, 1]. The words of a caption; an image's own colour lies around them.
COLOURS = {
    "red": (0.0, 0.85, 0.85),
    "orange": (0.075, 0.95, 1.0),
    "yellow": (0.15, 0.9, 0.97),
    "green": (0.34, 0.8, 0.65),
    "cyan": (0.5, 0.75, 0.9),
    "blue": (0.61, 0.85, 0.9),
    "purple": (0.77, 0.7, 0.75),
    "pink": (0.91, 0.5, 1.0),
}
BACKGROUNDS = {
    "black": (0.6, 0.2, 0.07),
    "white": (0.6, 0.02, 0.97),
    "gray": (0.6, 0.04, 0.5),
    "navy": (0.64, 0.75, 0.3),
    "brown": (0.07, 0.6, 0.33),
    "teal": (0.48, 0.8, 0.33),
    "beige": (0.11, 0.22, 0.9),
    "lavender": (0.7, 0.22, 0.9),
}
SIZES = ("small", "", "large")
TILTS = ("tilted left", "", "tilted right")
TEXTURES = ("", "striped", "dotted")


@dataclass(frozen=True)
class Look:
    """What varies within a class; each field indexes the tuple or table of its name."""

    colour: int
    background: int
    size: int
    tilt: int
    texture: int


def describe(label: int, look: Look) -> str:
    """The caption of a shape, such as "a small striped red star tilted left on navy"."""
    words = ["a", SIZES[look.size], TEXTURES[look.texture], list(COLOURS)[look.colour], CLASS_NAMES[label]]
    words += [TILTS[look.tilt], "on", list(BACKGROUNDS)[look.background]]
    return " ".join(word for word in words if word)


def draw(label: int, seed: int, *, look: Look | None = None) -> tuple[Image.Image, Look]:
    """The image of class `label` that `seed` gives, 32x32 RGB, and what it looks like.

    **Arguments:**

    - look: None: given by `seed` too.
    """
    # Only random(): the one method whose numbers Python promises not to change between versions.
    random = Random(seed * len(CLASS_NAMES) + label)
    drawn = Look(
        *(int(random.random() * n) for n in (len(COLOURS), len(BACKGROUNDS), len(SIZES), len(TILTS), len(TEXTURES)))
    )
    look = look or drawn
    angle = math.radians(_between(random, *((-32, -16), (-8, 8), (16, 32))[look.tilt]))
    mask = _reduce(_mask(label, look.size, angle, random))[..., None]
    ink = _textured(_colour(list(COLOURS.values())[look.colour], random), look.texture, angle, random)
    ground = _graded(_colour(list(BACKGROUNDS.values())[look.background], random), random)
    pixels = mask * ink + (1 - mask) * ground
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8)), look


@cache
def stream_shapes() -> tuple[LabelledImages, LabelledImages]:
    """The stream's images, 4,000 to train on and 1,000 to test on. The pair has never seen them."""
    count = len(CLASS_NAMES) * (_TRAIN_PER_CLASS + _TEST_PER_CLASS)
    targets = [i % len(CLASS_NAMES) for i in range(count)]
    images = [draw(target, STREAM_SEED + i)[0] for i, target in enumerate(targets)]
    train = len(CLASS_NAMES) * _TRAIN_PER_CLASS
    return LabelledImages(images[:train], targets[:train]), LabelledImages(images[train:], targets[train:])


def _between(random: Random, low: float, high: float) -> float:
    return low + (high - low) * random.random()


def _mask(label: int, size: int, angle: float, random: Random) -> NDArray[np.float64]:
    """How much of each (fine) pixel the shape covers."""
    radius = _between(random, *((9.0, 10.2), (11.0, 12.2), (13.0, 14.2))[size])
    stretch = _between(random, 0.92, 1.08)
    room = SIDE / 2 - radius
    centre = [SIDE / 2 + _between(random, -0.6, 0.6) * room for _ in range(2)]
    cos, sin = math.cos(angle), math.sin(angle)

    def place(point: Point) -> Point:
        x, y = point[0] * radius * stretch, point[1] * radius / stretch
        return tuple(  # type: ignore[return-value]
            (c + p) * _DRAWN_AT / SIDE for c, p in zip(centre, (x * cos - y * sin, x * sin + y * cos), strict=True)
        )

    image = Image.new("L", (_DRAWN_AT, _DRAWN_AT))
    pen = ImageDraw.Draw(image)
    for fill, outline in _OUTLINES[CLASS_NAMES[label]]():
        pen.polygon([place(point) for point in outline], fill=fill)
    return np.asarray(image) / 255.0


def _reduce(fine: NDArray[np.float64]) -> NDArray[np.float64]:
    step = _DRAWN_AT // SIDE
    return fine.reshape(SIDE, step, SIDE, step, *fine.shape[2:]).mean((1, 3))


def _colour(around: tuple[float, float, float], random: Random) -> NDArray[np.float64]:
    h, s, v = around
    h = (h + _between(random, -0.015, 0.015)) % 1
    s = min(1.0, s * _between(random, 0.9, 1.1))
    v = min(1.0, v * _between(random, 0.9, 1.06))
    return np.array(colorsys.hsv_to_rgb(h, s, v))


def _textured(colour: NDArray[np.float64], texture: int, angle: float, random: Random) -> NDArray[np.float64]:
    """`colour` over the image, with stripes or dots of a darker shade that tilt with the shape."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    period = _between(random, 6.5, 8.0)
    phase = [_between(random, 0, 2 * math.pi) for _ in range(2)]
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    waves = [np.sin(2 * math.pi * w / period + p) for w, p in zip((u, v), phase, strict=True)]
    if TEXTURES[texture] == "striped":
        dark = waves[0] > 0.2
    elif TEXTURES[texture] == "dotted":
        dark = waves[0] + waves[1] > 0.9
    else:
        dark = np.zeros_like(x, dtype=bool)
    return colour * np.where(dark, 0.55, 1.0)[..., None]


def _graded(colour: NDArray[np.float64], random: Random) -> NDArray[np.float64]:
    """`colour` over the image, a little lighter towards one side."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    angle, strength = 2 * math.pi * random.random(), _between(random, 0, 0.3)
    return colour * (1 + strength * (x * math.cos(angle) + y * math.sin(angle)))[..., None]


# Outlines, in a square from -1 to 1 with y downwards: what is filled, and what is then cut out.

_FILL, _CUT = 255, 0
_Parts = list[tuple[int, Outline]]


def _ellipse(cx: float, cy: float, rx: float, ry: float, start: float = 0, end: float = 360) -> Outline:
    angles = np.radians(np.linspace(start, end, 48))
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def _disc(cx: float, cy: float, r: float) -> Outline:
    return _ellipse(cx, cy, r, r)


def _box(left: float, top: float, right: float, bottom: float) -> Outline:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _heart() -> Outline:
    angles = np.linspace(0, 2 * math.pi, 60)
    return [
        (
            16 * math.sin(t) ** 3 / 17,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 17,
        )
        for t in angles
    ]


def _star() -> Outline:
    tips = [(math.pi * (i / 5 - 0.5), 1.0 if i % 2 == 0 else 0.42) for i in range(10)]
    return [(r * math.cos(a), r * math.sin(a)) for a, r in tips]


def _flower() -> _Parts:
    petals = [2 * math.pi * (i / 5 - 0.25) for i in range(5)]
    parts = [(_FILL, _disc(0.58 * math.cos(a), 0.58 * math.sin(a), 0.4)) for a in petals]
    return [*parts, (_CUT, _disc(0, 0, 0.24))]


_OUTLINES: dict[str, Callable[[], _Parts]] = {
    "circle": lambda: [(_FILL, _disc(0, 0, 0.92))],
    "square": lambda: [(_FILL, _box(-0.78, -0.78, 0.78, 0.78))],
    "triangle": lambda: [(_FILL, [(0, -0.95), (0.95, 0.72), (-0.95, 0.72)])],
    "star": lambda: [(_FILL, _star())],
    "cross": lambda: [(_FILL, _box(-0.27, -0.95, 0.27, 0.95)), (_FILL, _box(-0.95, -0.27, 0.95, 0.27))],
    "heart": lambda: [(_FILL, _heart())],
    "ring": lambda: [(_FILL, _disc(0, 0, 0.95)), (_CUT, _disc(0, 0, 0.55))],
    "crescent": lambda: [(_FILL, _disc(0, 0, 0.95)), (_CUT, _disc(0.45, -0.1, 0.75))],
    "arrow": lambda: [
        (_FILL, [(-0.95, -0.25), (0.1, -0.25), (0.1, -0.75), (0.98, 0), (0.1, 0.75), (0.1, 0.25), (-0.95, 0.25)])
    ],
    "drop": lambda: [(_FILL, _disc(0, 0.35, 0.6)), (_FILL, [(0, -1), (0.56, 0.14), (-0.56, 0.14)])],
    "house": lambda: [
        (_FILL, _box(-0.62, -0.1, 0.62, 0.85)),
        (_FILL, [(0, -0.95), (0.95, -0.05), (-0.95, -0.05)]),
        (_CUT, _box(-0.2, 0.3, 0.2, 0.85)),
    ],
    "bolt": lambda: [(_FILL, [(0.3, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.3, 1), (0.6, -0.2), (0.05, -0.2)])],
    "flower": _flower,
    "hourglass": lambda: [(_FILL, [(-0.72, -0.92), (0.72, -0.92), (0.08, 0), (0.72, 0.92), (-0.72, 0.92), (-0.08, 0)])],
    "fish": lambda: [(_FILL, _ellipse(-0.22, 0, 0.72, 0.48)), (_FILL, [(0.3, 0), (0.98, -0.58), (0.98, 0.58)])],
    "key": lambda: [
        (_FILL, _disc(-0.5, 0, 0.47)),
        (_CUT, _disc(-0.5, 0, 0.2)),
        (_FILL, _box(-0.1, -0.13, 0.98, 0.13)),
        (_FILL, _box(0.72, 0.1, 0.98, 0.52)),
        (_FILL, _box(0.3, 0.1, 0.54, 0.42)),
    ],
    "tree": lambda: [
        (_FILL, [(0, -1), (0.5, -0.35), (-0.5, -0.35)]),
        (_FILL, [(0, -0.65), (0.68, 0.15), (-0.68, 0.15)]),
        (_FILL, [(0, -0.2), (0.85, 0.6), (-0.85, 0.6)]),
        (_FILL, _box(-0.15, 0.6, 0.15, 1)),
    ],
    "cloud": lambda: [
        (_FILL, _disc(-0.55, 0.15, 0.4)),
        (_FILL, _disc(0.55, 0.15, 0.4)),
        (_FILL, _disc(-0.1, -0.2, 0.5)),
        (_FILL, _box(-0.55, 0.1, 0.55, 0.55)),
    ],
    "mushroom": lambda: [(_FILL, _ellipse(0, 0.05, 0.95, 0.9, 180, 360)), (_FILL, _box(-0.25, 0.0, 0.25, 0.92))],
    "frame": lambda: [(_FILL, _box(-0.85, -0.85, 0.85, 0.85)), (_CUT, _box(-0.45, -0.45, 0.45, 0.45))],
}
CLASS_NAMES = tuple(_OUTLINES)
