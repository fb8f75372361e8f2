"""Images of any mode: what is regenerated comes back as the stream's own do, or a sentence says what to change."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.core import SupervisedPlugin
from PIL import Image, ImageOps
from PIL.ExifTags import Base
from torch import nn
from torchvision.transforms import Compose, Lambda, Normalize, RandomCrop, RandomHorizontalFlip, Resize, ToTensor

from avalanche_clts.images.avalanche import stream_transforms
from avalanche_clts.images.consistency import consistent_format

from .contract import Squares, build, memory_of, squares, with_captions

WIDTH, HEIGHT = 8, 6


def _see_through(image: Image.Image) -> Image.Image:
    """With a left half in which another colour is hidden."""
    image = image.convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, WIDTH // 2, HEIGHT))
    return image


def _turned(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.getexif()[Base.Orientation] = 6
    return image


def _opened(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    _turned(image).save(file, "JPEG", exif=_turned(image).getexif())
    return Image.open(file)


def _keyed(image: Image.Image) -> Image.Image:
    """With a colour that stands for nothing, as PNG files may have one."""
    image = image.copy()
    image.paste((0, 0, 0), (0, 0, WIDTH // 2, HEIGHT))
    image.info["transparency"] = (0, 0, 0)
    return image


def _deep(mode: str) -> Callable[[Image.Image], Image.Image]:
    order = ">" if mode == "I;16B" else "<"

    def convert(image: Image.Image) -> Image.Image:
        pixels = np.asarray(image.convert("L")).astype(np.uint16) * 256
        pixels += np.random.RandomState(0).randint(256, size=pixels.shape, dtype=np.uint16)
        return Image.frombytes(mode, image.size, pixels.astype(f"{order}u2").tobytes())

    return convert


def _to(*modes: str) -> Callable[[Image.Image], Image.Image]:
    def convert(image: Image.Image) -> Image.Image:
        for mode in modes:
            image = image.convert(mode)
        return image

    return convert


def _on_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


LEARNT = {
    **{mode: _to(mode) for mode in ("RGB", "L", "1", "LA", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV")},
    "La": _to("LA", "La"),
    "P whose indices are its greys": _to("L", "P"),
}
# What a sentence says of them, and what it says to do.
REFUSED: dict[str, tuple[Callable[[Image.Image], Image.Image], str, Callable[[Image.Image], Any] | None]] = {
    "P": (_to("P"), r"of mode P, .*convert\('RGB'\)", _to("RGB")),
    "grey P": (lambda i: i.convert("L").quantize(16), r"of mode P, .*convert\('L'\)", _to("L")),
    "PA": (_to("PA"), r"of mode PA, .*convert\('RGB'\)", _to("RGB")),
    "transparent RGBA": (_see_through, "of mode RGBA are transparent.*onto white", _on_white),
    "transparent LA": (lambda i: _see_through(i).convert("LA"), "of mode LA are transparent", _on_white),
    "transparent La": (
        lambda i: _see_through(i).convert("LA").convert("La"),
        "of mode La are transparent",
        lambda i: _on_white(i.convert("LA")),
    ),
    "transparent RGBa": (lambda i: _see_through(i).convert("RGBa"), "of mode RGBa are transparent", _on_white),
    "RGB with a transparent colour": (_keyed, "of mode RGB are transparent", _on_white),
    "turned by EXIF": (_turned, r"EXIF orientation \(6\).*exif_transpose", ImageOps.exif_transpose),
    "opened and turned by EXIF": (_opened, r"EXIF orientation \(6\).*exif_transpose", ImageOps.exif_transpose),
    **{mode: (_deep(mode), f"of mode {mode}, .*8 bits", _to_8_bits) for mode in ("I;16", "I;16L", "I;16B")},
    "I": (lambda i: Image.fromarray(np.asarray(i.convert("L")).astype(np.int32) * 257), "of mode I, ", _to_8_bits),
    "F": (_to("F"), "floating-point numbers, .*convert it first", None),
}


class Batches(SupervisedPlugin):
    """Counts what was trained."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.count += 1


def _images(convert: Callable[[Image.Image], Image.Image], *, every: int = 1) -> Squares:
    data = squares(each=6)
    upright = [image.crop((0, 0, WIDTH, HEIGHT)) for image in data.images]
    data.images = [convert(image) if i % every == every - 1 else image for i, image in enumerate(upright)]
    return data


def _benchmark(data: Squares, transform: Any) -> Any:
    transforms = {"train_transform": transform, "eval_transform": transform}
    return nc_benchmark(data, data, 2, False, fixed_class_order=list(range(4)), **transforms)


def train(kind: str, data: Squares, transform: Any) -> Any:
    """Both experiences; a strategy whose regenerated samples have been found to be like real ones."""
    benchmark = _benchmark(data, transform)
    real = benchmark.train_stream[0].dataset[0][0]

    def network(outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Flatten(), nn.Linear(real.numel(), outputs))

    replay = {"captions_per_class": 2, "replay_size": 8, "router_epochs": 1} if kind == "clts" else {"mem_size": 8}
    options = {"head": network(4), "router": network(4), "replay": replay, "train_epochs": 1}
    batches = Batches()
    strategy = build(kind, plugins=[batches], **options)
    try:
        strategy.train(benchmark.train_stream[0])
    except ValueError:
        assert batches.count == 0
        raise
    strategy.train(benchmark.train_stream[1])
    regenerated = [x for x, *_ in memory_of(strategy).buffer.train()]
    assert len(regenerated) > 0
    assert {(x.shape, x.dtype) for x in regenerated} == {(real.shape, real.dtype)}
    return strategy


@with_captions
@pytest.mark.parametrize("mode", LEARNT)
def test_modes_are_learnt_as_they_are(mode: str, kind: str) -> None:
    train(kind, _images(LEARNT[mode]), ToTensor())


@with_captions
@pytest.mark.parametrize("case", REFUSED)
def test_what_would_not_come_back_alike_is_refused_before_a_batch(case: str, kind: str) -> None:
    convert, sentence, _ = REFUSED[case]
    with pytest.raises(ValueError, match=sentence):
        train(kind, _images(convert), ToTensor())


@pytest.mark.parametrize("case", [case for case, (*_, remedy) in REFUSED.items() if remedy is not None])
def test_remedies_that_are_told_work(case: str) -> None:
    convert, _, remedy = REFUSED[case]
    train("caption-replay", _images(convert), Compose([Lambda(remedy), ToTensor()]))


@pytest.mark.parametrize("case", ["1", "La", "RGBa", "CMYK", "P", "PA"])
def test_modes_are_learnt_behind_a_conversion(case: str) -> None:
    convert = LEARNT.get(case) or REFUSED[case][0]
    first = _to("LA", "RGB") if case == "La" else _to("RGB")
    steps = [Lambda(first), Resize((8, 8)), RandomCrop(6), RandomHorizontalFlip(), ToTensor(), Normalize(0.5, 0.5)]
    train("caption-replay", _images(convert), Compose(steps))


@pytest.mark.parametrize("transform", [ToTensor(), Compose([Resize((8, 8)), Lambda(_to("RGB")), ToTensor()])])
@pytest.mark.parametrize("case", ["transparent RGBA", "turned by EXIF"])
def test_hidden_colours_and_turned_images_are_told_whatever_the_shapes(case: str, transform: Any) -> None:
    data = _images(REFUSED[case][0])
    if case == "turned by EXIF":  # so that something shows which way is up
        for image in data.images:
            image.paste((255, 255, 255), (0, 0, WIDTH, HEIGHT // 2))
    with pytest.raises(ValueError, match=REFUSED[case][1]):
        train("caption-replay", data, transform)


@pytest.mark.parametrize("case", ["P", "transparent RGBA", "turned by EXIF"])
def test_one_image_of_another_kind_is_found(case: str) -> None:
    convert, sentence, _ = REFUSED[case]
    with pytest.raises(ValueError, match=sentence):
        train("clts", _images(convert, every=10), ToTensor())


def test_grey_among_colour_is_told() -> None:
    with pytest.raises(ValueError, match=r"of mode L, .*\(1, 6, 8\).*\(3, 6, 8\).*convert\('RGB'\)"):
        train("clts", _images(_to("L"), every=10), ToTensor())


def test_colours_that_no_screen_shows_are_told() -> None:
    shown, noise = _images(_to("RGB")), np.random.RandomState(0).bytes(WIDTH * HEIGHT * 3)
    shown.images = [shown.images[6 * target].convert("LAB") for target in range(4)]
    shown.targets = list(range(4))
    beyond = Squares(shown.targets)
    beyond.images = [Image.frombytes("LAB", (WIDTH, HEIGHT), noise)] * 4
    for data in (shown, beyond):
        dataset = _benchmark(data, ToTensor()).train_stream[0].dataset
        with nullcontext() if data is shown else pytest.raises(ValueError, match=r"of mode LAB, .*differ by 0\."):
            assert consistent_format(dataset, stream_transforms(dataset)).mode == "LAB"


def test_two_tones_stay_two() -> None:
    strategy = train("caption-replay", _images(LEARNT["1"]), ToTensor())
    values = torch.cat([x for x, *_ in memory_of(strategy).buffer.train()]).unique()
    assert set(values.tolist()) <= {0.0, 1.0}


def test_looking_at_random_transforms_changes_no_later_draw() -> None:
    own = np.random.default_rng(0)
    noise = Lambda(lambda x: x + torch.rand(1) + random.random() + np.random.rand() + 100 * own.random())
    dataset = _benchmark(_images(_to("P")), Compose([Lambda(_to("RGB")), ToTensor(), noise])).train_stream[0].dataset
    draws = []
    for look in (False, True):
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        if look:  # its own generator makes every image another, which is not held against it
            consistent_format(dataset, stream_transforms(dataset))
        draws.append((float(torch.rand(1)), random.random(), np.random.rand()))
    assert draws[0] == draws[1]


def test_transforms_that_take_nothing_but_the_streams_own_images_are_told() -> None:
    palette = Lambda(lambda image: torch.tensor(image.getpalette()[:30]) / 255)
    with pytest.raises(ValueError, match=r"of mode P, and the transforms fail on a regenerated one .*convert\('RGB'\)"):
        train("caption-replay", _images(_to("P")), palette)
