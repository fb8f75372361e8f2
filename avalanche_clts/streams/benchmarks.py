"""Continual-learning streams, built the way Avalanche's own classics are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from avalanche.benchmarks import NCScenario, nc_benchmark
from PIL.Image import Image
from torch.utils.data import Dataset
from torchvision.transforms import ToTensor

from .._support.checks import require_whole
from .._support.console import shown
from ..images.formats import LabelledImages
from . import embedded_digits as digits
from . import embedded_shapes as shapes
from .folders import open_layouts, require_folder_arguments
from .layouts import read_domains, read_layout
from .lookalikes import LAYOUT
from .orders import num_classes


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

    801 images train and 396 test; the pair that ships with this package has seen none of them. Works offline.

    ```python
    benchmark = split_digits(n_experiences=5, seed=0)
    for experience in benchmark.train_stream:
        print(experience.classes_in_this_experience, len(experience.dataset))
    ```

    **Arguments:**

    - n_experiences: 1, 2, 5 or 10.
    - return_task_id: whether experience t's images carry task label t (task-incremental) or all 0 (class-incremental).
    - seed: of the order of classes. None, with no `fixed_class_order`: torch's global generator decides.
    - fixed_class_order: the ten class ids in the order they come.
    - train_transform, eval_transform: from a PIL image to what the model sees. None: `ToTensor`, `(1, 8, 8)` in [0, 1].

    Raises `ValueError` if the classes cannot be divided into `n_experiences`.
    """
    return split_classes(
        *_in_memory(digits.stream_digits(), digits.CLASS_NAMES),
        len(digits.CLASS_NAMES),
        n_experiences,
        return_task_id,
        seed,
        fixed_class_order,
        train_transform,
        eval_transform,
    )


def split_shapes(
    n_experiences: int = 10,
    *,
    return_task_id: bool = False,
    seed: int | None = None,
    fixed_class_order: Sequence[int] | None = None,
    train_transform: Callable[[Any], Any] | None = None,
    eval_transform: Callable[[Any], Any] | None = None,
) -> NCScenario:
    """Split Shapes: drawings of 20 kinds of shapes (32x32, RGB) in experiences of different kinds.

    4,000 images train and 1,000 test; colour, size, tilt, texture, place and background vary within a class. The pair
    that ships with this package has seen drawings of the same kinds, and none of these. Works offline.

    ```python
    benchmark = split_shapes(n_experiences=10, fixed_class_order=range(20))
    image, kind, *_ = benchmark.train_stream[0].dataset[0]  # (3, 32, 32), values in [0, 1]
    ```

    **Arguments:** as in `split_digits`, and

    - n_experiences: 1, 2, 4, 5, 10 or 20.
    - train_transform, eval_transform: None: `ToTensor`, `(3, 32, 32)` in [0, 1].
    """
    return split_classes(
        *_in_memory(shapes.stream_shapes(), shapes.CLASS_NAMES),
        len(shapes.CLASS_NAMES),
        n_experiences,
        return_task_id,
        seed,
        fixed_class_order,
        train_transform,
        eval_transform,
    )


def split_folder(
    root: str | os.PathLike[str],
    n_experiences: int | None = None,
    *,
    domains: Sequence[str] | Literal["all"] | None = None,
    size: int | tuple[int, int] | None = None,
    test_share: float = 0.2,
    part: tuple[int, int] = (1, 1),
    skip_damaged: bool = False,
    return_task_id: bool = False,
    seed: int | None = None,
    fixed_class_order: Sequence[int] | None = None,
    train_transform: Callable[[Any], Any] | None = None,
    eval_transform: Callable[[Any], Any] | None = None,
) -> NCScenario:
    """Any folder of images, a subfolder a class, in experiences of different classes or of different domains.

    Every file is opened before this returns.

    ```python
    benchmark = split_folder("photos", n_experiences=2, size=64)
    image, target, *_ = benchmark.train_stream[0].dataset[0]  # (3, 64, 64), values in [0, 1]
    ```

    **Arguments:** as in `split_digits`, and

    - root: holds `train/` and `test/` (or `val/`) with class subfolders; or `train/` alone, or class subfolders, which
        are then divided. With `domains`, it holds folders that are so.
    - n_experiences: must divide the number of classes. None: 5, or as many as there are domains.
    - domains: folders in `root`, an experience each, all with the same classes, in this order; "all": every one, in an
        order that `seed` gives. None: `root` is divided by classes.
    - size, test_share, part, skip_damaged: as in `open_folder`. The division into training and test images is the same
        for every `seed`.
    - train_transform, eval_transform: None: `ToTensor`, values in [0, 1].

    Raises `FileNotFoundError` or `ValueError`, saying what is wrong with the folder or the arguments.
    """
    require_folder_arguments(size, test_share, part, skip_damaged)
    require_whole("n_experiences", n_experiences, none="5, or as many as there are domains")
    require_whole("seed", seed, least=0, none="torch's global generator")
    options: Any = {"size": size, "test_share": test_share, "part": part, "skip_damaged": skip_damaged}
    if domains is not None:
        if fixed_class_order is not None:
            raise ValueError(
                "fixed_class_order is given, but with domains every experience holds all classes; leave it out"
            )
        found = read_domains(root, domains)
        if n_experiences not in (None, len(found)):
            raise ValueError(
                f"n_experiences is {n_experiences}, but there are {len(found)} domains, one an experience; leave it out"
            )
        opened = open_layouts(list(found.values()), **options)
        if domains == "all" and seed is not None:
            opened = [opened[i] for i in np.random.RandomState(seed).permutation(len(opened))]
        benchmark = nc_benchmark(
            [train for train, _ in opened],
            [test for _, test in opened],
            n_experiences=len(opened),
            task_labels=return_task_id,
            shuffle=False,
            class_ids_from_zero_in_each_exp=True,
            one_dataset_per_exp=True,
            train_transform=train_transform or ToTensor(),
            eval_transform=eval_transform or ToTensor(),
        )
        benchmark.n_classes = num_classes(benchmark)  # Avalanche counts the same classes anew in each domain
        return benchmark
    layout = read_layout(root)
    if len(layout.train) == 1:
        (label,) = layout.train
        raise ValueError(
            f"{shown(layout.root)} holds images of a single class, {shown(label)}; a stream needs two at least; "
            f"{LAYOUT}"
        )
    n_experiences = 5 if n_experiences is None else n_experiences
    _require_divisor(n_experiences, len(layout.train))
    ((train, test),) = open_layouts([layout], **options)
    return split_classes(
        train,
        test,
        len(layout.train),
        n_experiences,
        return_task_id,
        seed,
        fixed_class_order,
        train_transform,
        eval_transform,
    )


def _in_memory(
    parts: tuple[LabelledImages, LabelledImages], class_names: Sequence[str]
) -> tuple[ImageDataset, ImageDataset]:
    train, test = (ImageDataset(*part, class_names) for part in parts)
    return train, test


def split_classes(
    train: Dataset[Any],
    test: Dataset[Any],
    num_classes: int,
    n_experiences: int,
    return_task_id: bool = False,
    seed: int | None = None,
    fixed_class_order: Sequence[int] | None = None,
    train_transform: Callable[[Any], Any] | None = None,
    eval_transform: Callable[[Any], Any] | None = None,
) -> NCScenario:
    """Two data sets, to train and to test on, in experiences of equally many different classes.

    **Arguments:** as in `split_digits`, and

    - num_classes: of both data sets.

    Raises `ValueError` if the classes cannot be divided into `n_experiences`, or are not those of `fixed_class_order`.
    """
    _require_divisor(n_experiences, num_classes)
    require_whole("seed", seed, least=0, none="torch's global generator")
    if fixed_class_order is not None and sorted(fixed_class_order) != list(range(num_classes)):
        raise ValueError(
            f"fixed_class_order is {list(fixed_class_order)}; it must hold each of the class ids 0 to "
            f"{num_classes - 1} once"
        )
    return nc_benchmark(
        train,
        test,
        n_experiences=n_experiences,
        task_labels=return_task_id,
        seed=seed,
        fixed_class_order=fixed_class_order,
        train_transform=train_transform or ToTensor(),
        eval_transform=eval_transform or ToTensor(),
    )


def _require_divisor(n_experiences: int, num_classes: int) -> None:
    require_whole("n_experiences", n_experiences)
    if num_classes % n_experiences:
        divisors = [str(n) for n in range(1, num_classes + 1) if num_classes % n == 0]
        raise ValueError(
            f"n_experiences is {n_experiences}; {num_classes} classes divide into {', '.join(divisors)} experiences"
        )
