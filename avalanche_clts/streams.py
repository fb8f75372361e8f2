"""Continual-learning streams, built the way Avalanche's own classics are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from avalanche.benchmarks import NCScenario, nc_benchmark
from PIL.Image import Image
from torch.utils.data import Dataset
from torchvision.transforms import ToTensor

from .digits import CLASS_NAMES, stream_digits

_TEST_EVERY = 3  # of each class's images, one in three is a test image


class ImageDataset(Dataset[tuple[Image, int]]):
    """Images in memory with their classes, as Avalanche's benchmark builders take them.

    **Arguments:**

    - images: PIL images, all of one size and mode.
    - targets: `targets[i]` is the class of `images[i]`.
    - classes: names of the classes, by class id.
    """

    def __init__(self, images: Sequence[Image], targets: Sequence[int], classes: Sequence[str]) -> None:
        self.images = list(images)
        self.targets = list(targets)
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        return self.images[index], self.targets[index]


def split_digits(
    n_experiences: int = 5,
    *,
    return_task_id: bool = False,
    seed: int | None = None,
    fixed_class_order: Sequence[int] | None = None,
    train_transform: Callable[[Any], Any] | None = None,
    eval_transform: Callable[[Any], Any] | None = None,
) -> NCScenario:
    """Split Digits: 1,197 real handwritten digits (8x8, grey) in experiences of different classes.

    798 images train and 399 test; the pair that ships with this package has seen none of them. Works offline.

    **Arguments:**

    - n_experiences: 1, 2, 5 or 10.
    - return_task_id: whether experience t's images carry task label t (task-incremental) or all 0 (class-incremental).
    - seed: of the order of classes. None, with no `fixed_class_order`: torch's global generator decides.
    - fixed_class_order: the ten class ids in the order they come.
    - train_transform, eval_transform: from a PIL image to what the model sees. None: `ToTensor`, `(1, 8, 8)` in [0, 1].

    Raises `ValueError` if the classes cannot be divided into `n_experiences`.
    """
    if n_experiences not in (1, 2, 5, 10):
        raise ValueError(f"n_experiences is {n_experiences}; ten classes divide into 1, 2, 5 or 10 experiences")
    images, targets = stream_digits()
    seen = [0] * len(CLASS_NAMES)
    train: list[int] = []
    test: list[int] = []
    for index, target in enumerate(targets):
        (test if seen[target] % _TEST_EVERY == _TEST_EVERY - 1 else train).append(index)
        seen[target] += 1
    parts = [ImageDataset([images[i] for i in part], [targets[i] for i in part], CLASS_NAMES) for part in (train, test)]
    return nc_benchmark(
        *parts,
        n_experiences=n_experiences,
        task_labels=return_task_id,
        seed=seed,
        fixed_class_order=fixed_class_order,
        train_transform=train_transform or ToTensor(),
        eval_transform=eval_transform or ToTensor(),
    )


@dataclass(frozen=True)
class StreamEntry:
    """A stream by its name on the command line.

    **Arguments:**

    - description: what it is, in a sentence.
    - build: makes it, given the seed of its order of classes.
    """

    description: str
    build: Callable[[int], NCScenario]


STREAMS: dict[str, StreamEntry] = {
    "digits": StreamEntry(
        "Split Digits: 1,197 real handwritten digits, 8x8 grey, 10 classes in 5 experiences",
        lambda seed: split_digits(5, seed=seed),
    ),
}
