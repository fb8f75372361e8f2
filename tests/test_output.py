"""What a captioner or generator hands out is checked where it arrives, and shown as a viewer would."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from avalanche_clts.pair.output import checked_captions, checked_images


class Says:
    def __init__(self, made: Any) -> None:
        self.made = made

    def caption(self, images: Sequence[Image.Image], class_names: Sequence[str] | None = None) -> Any:
        return self.made


class Draws:
    def __init__(self, made: Any) -> None:
        self.made = made

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> Any:
        return self.made() if callable(self.made) else self.made


class DrawsSized(Draws):
    def generate_sized(self, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int]) -> Any:
        return self.generate(prompts, seeds)


def picture(mode: str = "RGB", colour: Any = 0, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new(mode, size, colour)


PICTURES = [picture(), picture()]


@pytest.mark.parametrize(
    "made",
    [["a", "b"], ("a", "b"), (text for text in "ab"), np.array(["a", "b"]), iter(["a", "b"])],
    ids=["list", "tuple", "generator", "array", "iterator"],
)
def test_texts_may_come_in_any_sequence(made: Any) -> None:
    texts = checked_captions(Says(made), PICTURES)
    assert texts == ["a", "b"]
    assert {type(text) for text in texts} == {str}
    assert type(texts) is list


@pytest.mark.parametrize(
    ("made", "error", "what"),
    [
        (None, TypeError, r"Says\.caption returned None"),
        ("ab", TypeError, "returned a str"),
        (b"ab", TypeError, "returned a bytes"),
        ({"a": 1, "b": 2}, TypeError, "returned a dict"),
        ({"a", "b"}, TypeError, "returned a set"),
        (3, TypeError, "returned an int"),
        (torch.tensor(3), TypeError, "returned a Tensor"),
        (["a"], ValueError, "returned 1 for 2"),
        ([], ValueError, "returned 0 for 2"),
        (["a", "b", "c"], ValueError, "returned 3 for 2"),
        (itertools.repeat("a"), ValueError, "returned more than 2 for 2"),
        (iter(["a"]), ValueError, "returned 1 for 2"),
        (["a", None], TypeError, r"returned as number 1 of 2 None"),
        (torch.zeros(2, 5), TypeError, r"returned as number 0 of 2 tensor"),
        ([[{"generated_text": "a"}], "b"], TypeError, r"returned as number 0 of 2 \[\{'generated_text'"),
    ],
)
def test_what_are_not_texts_is_said_in_one_sentence(made: Any, error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what) as raised:
        checked_captions(Says(made), PICTURES)
    message = str(raised.value)
    assert message.startswith("Says.caption returned ")
    assert message.endswith("; it must be a list of 2 texts, one for each image")
    assert "\n" not in message


@pytest.mark.parametrize("size", [None, (8, 8)])
@pytest.mark.parametrize(
    ("made", "error", "what"),
    [
        (None, TypeError, "returned None"),
        (picture(), TypeError, "returned an Image"),
        (torch.tensor(0), TypeError, "returned a Tensor"),
        (torch.zeros(2, 3, 8, 8), TypeError, "returned as number 0 of 2 a Tensor"),
        ([picture(), np.zeros((8, 8, 3), np.uint8)], TypeError, "returned as number 1 of 2 a ndarray"),
        ([None, picture()], TypeError, "returned as number 0 of 2 None"),
        ([picture()], ValueError, "returned 1 for 2"),
        ([picture()] * 3, ValueError, "returned 3 for 2"),
        (itertools.repeat(picture()), ValueError, "returned more than 2 for 2"),
        ([picture(), picture(size=(0, 8))], ValueError, "number 1 of 2 an image of 0x8 pixels"),
        ([picture("F"), picture()], ValueError, "number 0 of 2 an image of mode F, which cannot be shown"),
    ],
)
@pytest.mark.parametrize("kind", [Draws, DrawsSized])
def test_what_are_not_images_is_said_in_one_sentence(
    kind: type[Draws], made: Any, error: type[Exception], what: str, size: tuple[int, int] | None
) -> None:
    with pytest.raises(error, match=what) as raised:
        checked_images(kind(made), ["a", "b"], [0, 1], size)
    message = str(raised.value)
    method = "generate_sized" if kind is DrawsSized and size is not None else "generate"
    assert message.startswith(f"{kind.__name__}.{method} returned ")
    assert "; it must be a list of 2 PIL images, one for each prompt" in message
    assert "\n" not in message


def test_images_of_another_size_than_asked_are_refused() -> None:
    with pytest.raises(ValueError, match=r"DrawsSized\.generate_sized returned as number 1 of 2 an image of 9x8 pixel"):
        checked_images(DrawsSized([picture(), picture(size=(9, 8))]), ["a", "b"], [0, 1], (8, 8))
    assert checked_images(Draws([picture(size=(9, 8))] * 2), ["a", "b"], [0, 1], (3, 2))[1].size == (3, 2)


def test_as_many_seeds_as_prompts_are_asked_for() -> None:
    with pytest.raises(ValueError, match="2 prompts, 1 seeds"):
        checked_images(Draws(PICTURES), ["a", "b"], [0])


def palette(transparent: bool) -> Image.Image:
    image = picture("P", 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    if transparent:
        image.info["transparency"] = 1
    return image


def deep(value: int) -> Image.Image:
    return Image.fromarray(np.full((8, 8), value, np.uint16))


WHITE = (255, 255, 255)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: picture("RGB", (1, 2, 3)), (1, 2, 3)),
        (lambda: picture("RGBA", (1, 2, 3, 255)), (1, 2, 3)),
        (lambda: picture("RGBA", (1, 2, 3, 0)), WHITE),
        (lambda: picture("RGBA", (0, 0, 0, 128)), (127, 127, 127)),
        (lambda: picture("LA", (9, 0)), WHITE),
        (lambda: picture("LA", (9, 255)), (9, 9, 9)),
        (lambda: picture("L", 9), (9, 9, 9)),
        (lambda: picture("1", 1), WHITE),
        (lambda: palette(False), (10, 200, 30)),
        (lambda: palette(True), WHITE),
        (lambda: picture("CMYK", (255, 0, 0, 0)), (0, 255, 255)),
        (lambda: picture("HSV", (0, 0, 255)), WHITE),
        (lambda: deep(0x1234), (0x12, 0x12, 0x12)),
        (lambda: picture("I", 0x1234), (0x12, 0x12, 0x12)),
    ],
)
@pytest.mark.parametrize("size", [None, (4, 6)])
def test_images_are_turned_into_rgb_as_a_viewer_shows_them(
    make: Callable[[], Image.Image], expected: tuple[int, int, int], size: tuple[int, int] | None
) -> None:
    for images in ([make()], iter([make()]), (make(),)):
        (image,) = checked_images(Draws(images), ["a"], [0], size)
        assert image.mode == "RGB"
        assert image.size == (size or (8, 8))
        assert image.getcolors() == [(image.width * image.height, expected)]
