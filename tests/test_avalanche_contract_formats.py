"""Regenerated images are like the stream's: targets, names, modes, sizes and transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    nc_benchmark,
)
from avalanche.benchmarks.utils import DataAttribute, TransformGroups, make_avalanche_dataset
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import Compose, Lambda, Normalize, Resize, ToTensor

from avalanche_clts import CaptionBuffer, Pair

from .contract import (
    NAMES,
    SIZE,
    Painter,
    Seer,
    Squares,
    build,
    memory_of,
    nearest_colour,
    network,
    squares,
    stream_accuracy,
    with_captions,
)
from .test_avalanche_contract import STREAMS

# Targets and names


@with_captions
def test_regenerated_images_bear_the_targets_that_the_stream_gives_out(kind: str, tmp_path: Any) -> None:
    train, test = STREAMS["turned_targets"](tmp_path)
    strategy = build(kind)
    for experience in train:
        strategy.train(experience)
    regenerated = memory_of(strategy).buffer
    assert len(regenerated) > 0
    for x, y, *_ in regenerated:
        assert nearest_colour(x) == NAMES[3 - int(y)]
    assert stream_accuracy(strategy, test) >= 0.7


@pytest.mark.parametrize("stream", [s for s in STREAMS if "single_images" not in s])
def test_regenerated_samples_are_like_the_streams(stream: str, tmp_path: Any) -> None:
    train, _ = STREAMS[stream](tmp_path)
    memory = CaptionBuffer(pair=Pair(Seer(), Painter()), captions_per_class=2)
    real = []
    for experience in train:
        memory.post_adapt(None, experience)
        real += list(experience.dataset)
    for sample in memory.buffer.train():
        assert len(sample) == len(real[0])
        assert [type(value) for value in sample] == [type(value) for value in real[0]]
        assert sample[0].shape == real[0][0].shape
        assert sample[0].dtype == real[0][0].dtype
    yielded = {(nearest_colour(_shown(x)), int(y)) for x, y, *_ in real}
    assert {(nearest_colour(_shown(x)), int(y)) for x, y, *_ in memory.buffer.train()} == yielded


def _shown(x: torch.Tensor) -> torch.Tensor:
    return x / 2 + 0.5 if x.min() < 0 else x


class Renumbered(Dataset):
    """Some of the classes, from 0 on: what everyone writes."""

    def __init__(self, data: Squares, classes: Sequence[int]) -> None:
        self.dataset = data
        self.index = [i for i, target in enumerate(data.targets) if target in classes]
        self.number = {c: n for n, c in enumerate(classes)}
        self.targets = [self.number[data.targets[i]] for i in self.index]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, target = self.dataset[self.index[index]]
        return image, self.number[target]


class Coarse(Squares):
    """torchvision's `target_transform`: warm or cold; `classes` are still the colours."""

    def __init__(self) -> None:
        super().__init__([k for k in range(4) for _ in range(8)])
        self.target_transform = lambda target: int(target in (1, 2))
        self.fine, self.targets = self.targets, [self.target_transform(target) for target in self.targets]

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.images[index], self.target_transform(self.fine[index])


def _moved(by: int) -> Squares:
    data = squares()
    data.targets = [target + by for target in data.targets]
    return data


RENUMBERED = {
    "some of the classes": lambda: (Renumbered(squares(range(6)), [2, 3, 4, 5]), {}),
    "coarse classes": lambda: (Coarse(), {}),
    "classes plus ten": lambda: (_moved(10), {"fixed_class_order": [10, 11, 12, 13]}),
    "by Avalanche, from the first experience on": lambda: (
        squares(),
        {"fixed_class_order": [3, 1, 2, 0], "class_ids_from_zero_from_first_exp": True},
    ),
    "by Avalanche, in each experience": lambda: (squares(), {"class_ids_from_zero_in_each_exp": True}),
    "not at all": lambda: (squares(), {}),
}


@with_captions
@pytest.mark.parametrize("case", RENUMBERED)
def test_no_image_is_named_after_another_class(case: str, kind: str) -> None:
    data, options = RENUMBERED[case]()
    task_labels = "class_ids_from_zero_in_each_exp" in options
    transforms = {"train_transform": ToTensor(), "eval_transform": ToTensor()}
    benchmark = nc_benchmark(data, data, 2, task_labels, **{"seed": 0, **transforms, **options})
    strategy = build(kind, head=network(20))
    for experience in benchmark.train_stream:
        strategy.train(experience)
    captioner = memory_of(strategy).pair.captioner
    assert captioner.images
    for image, name in zip(captioner.images, captioner.names, strict=True):
        assert name in (None, nearest_colour(image))
    if case == "not at all":
        assert None not in captioner.names


@pytest.mark.parametrize("case", ["some of the classes", "coarse classes", "classes plus ten"])
def test_names_that_cannot_be_told_are_asked_for(case: str, caplog: pytest.LogCaptureFixture) -> None:
    data, options = RENUMBERED[case]()
    transforms = {"train_transform": ToTensor(), "eval_transform": ToTensor()}
    experience = nc_benchmark(data, data, 1, False, **transforms, **options).train_stream[0]
    memory = CaptionBuffer(pair=Pair(Seer(), Painter()), captions_per_class=2)
    memory.post_adapt(None, experience)
    assert "class_names" in caplog.text


@with_captions
def test_names_that_are_given_are_taken(kind: str) -> None:
    data = Renumbered(squares(range(6)), [2, 3, 4, 5])
    transforms = {"train_transform": ToTensor(), "eval_transform": ToTensor()}
    benchmark = nc_benchmark(data, data, 2, False, seed=0, **transforms)
    strategy = build(kind, replay={"class_names": NAMES[2:]})
    for experience in benchmark.train_stream:
        strategy.train(experience)
    captioner = memory_of(strategy).pair.captioner
    assert captioner.names == [nearest_colour(image) for image in captioner.images]
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7


# Formats


def _coloured(x: torch.Tensor) -> bool:
    return float((x.amax(0) - x.amin(0)).mean()) > 0.2


@with_captions
def test_one_grey_image_takes_nobodys_colour(kind: str) -> None:
    data = squares()
    data.images[16] = data.images[16].convert("L")  # the first of the second experience
    to_rgb = Compose([Lambda(lambda image: image.convert("RGB")), ToTensor()])
    transforms = {"train_transform": to_rgb, "eval_transform": to_rgb}
    benchmark = nc_benchmark(data, data, 2, False, fixed_class_order=list(range(4)), **transforms)
    strategy = build(kind)
    for experience in benchmark.train_stream:
        strategy.train(experience)
    images = [x for x, *_ in memory_of(strategy).buffer.eval()]
    assert sum(not _coloured(x) for x in images) <= len(images) // 12, "those of the grey image alone"
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.9


def test_grey_first_image_of_all_takes_nobodys_colour() -> None:
    data = squares()
    data.images[0] = data.images[0].convert("L")
    to_rgb = Compose([Lambda(lambda image: image.convert("RGB")), ToTensor()])
    experience = nc_benchmark(data, data, 1, False, train_transform=to_rgb, eval_transform=to_rgb).train_stream[0]
    memory = CaptionBuffer(pair=Pair(Seer(), Painter()), captions_per_class=4)
    memory.post_adapt(None, experience)
    assert sum(not _coloured(x) for x, *_ in memory.buffer) <= 1


class Spy:
    """A transform that notes what it is given."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, tuple[int, int]]] = set()

    def __call__(self, image: Image.Image) -> Image.Image:
        self.seen.add((image.mode, image.size))
        return image.convert("RGB").resize((SIZE, SIZE))


def _data_set(
    classes: Sequence[int], transform: Any, *, size: int = SIZE, mode: str = "RGB", names: Any = None, first: int = 0
) -> Any:
    data = Squares([k for k in classes for _ in range(6)], size=size)
    data.images = [image.convert(mode) for image in data.images]
    data.targets = [first + classes.index(k) for k in data.targets]
    data.classes = names or NAMES
    groups = TransformGroups({"train": (transform, None), "eval": (transform, None)})
    attributes = [DataAttribute(data.targets, "targets")]
    return make_avalanche_dataset(data, data_attributes=attributes, transform_groups=groups)


def _remembered(*datasets: Any, **options: Any) -> CaptionBuffer:
    memory = CaptionBuffer(pair=Pair(Seer(), Painter()), captions_per_class=3, **options)
    for experience in benchmark_from_datasets(train=list(datasets)).streams["train"]:
        memory.post_adapt(None, experience)
    return memory


def _of_experience(memory: CaptionBuffer, classes: Sequence[int]) -> list[torch.Tensor]:
    return [x for x, y, *_ in memory.buffer if int(y) in classes]


@pytest.mark.parametrize("turned", [False, True])
def test_each_experience_is_regenerated_in_its_own_format(turned: bool) -> None:
    large, small = Spy(), Spy()
    parts = [
        _data_set([0, 1, 2], Compose([large, ToTensor()]), size=20),
        _data_set([3, 4, 5], Compose([small, ToTensor()]), size=10, mode="L", first=3),
    ]
    memory = _remembered(*(reversed(parts) if turned else parts), class_names=NAMES)
    colour, grey = _of_experience(memory, [0, 1, 2]), _of_experience(memory, [3, 4, 5])
    assert len(colour) == len(grey) == 9
    assert all(map(_coloured, colour))
    assert not any(map(_coloured, grey))
    assert large.seen == {("RGB", (20, 20))}
    assert small.seen == {("L", (10, 10))}


def test_each_experience_goes_through_its_own_transforms() -> None:
    memory = _remembered(
        _data_set([0, 1], Compose([ToTensor(), Normalize(0.5, 0.5)])), _data_set([2, 3], ToTensor(), first=2)
    )
    assert all(x.min() < 0 for x in _of_experience(memory, [0, 1]))
    assert all(x.min() >= 0 for x in _of_experience(memory, [2, 3]))


@pytest.mark.parametrize("turned", [False, True])
def test_each_experience_is_captioned_under_its_own_names(turned: bool) -> None:
    hundred = [f"kind {i}" for i in range(100)]
    parts = [
        _data_set([0, 1, 2], ToTensor(), names=hundred, first=50),
        _data_set([3, 4, 5], ToTensor(), names=["yellow", "purple", "cyan"]),
    ]
    memory = _remembered(*(reversed(parts) if turned else parts))
    said = dict.fromkeys(memory.pair.captioner.names)
    expected = [*("kind 50", "kind 51", "kind 52"), *("yellow", "purple", "cyan")]
    assert set(said) == set(expected)
    assert len(memory.buffer) == 18


def test_experiences_of_many_formats_are_learnt() -> None:
    def transform(norm: bool) -> Any:
        steps = [Lambda(lambda image: image.convert("RGB")), Resize((SIZE, SIZE)), ToTensor()]
        return Compose([*steps, Normalize(0.5, 0.5)] if norm else steps)

    parts = [
        _data_set([0, 1], transform(False), size=20),
        _data_set([2, 3], transform(True), size=12, first=2),
        _data_set([4, 5], transform(False), first=4),
    ]
    benchmark = benchmark_from_datasets(train=parts, test=parts)
    for kind in ("replay", "caption-replay", "clts"):
        strategy = build(kind, train_epochs=20)
        for experience in benchmark.streams["train"]:
            strategy.train(experience)
        assert stream_accuracy(strategy, benchmark.streams["test"]) >= 0.7
