"""Folders of images, a subfolder a class, as data sets: so that users bring their own images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder

from ..images.files import is_grey, open_image

MEMORY = 1 << 30  # bytes of images that are kept, once read
_TRAIN_NAMES = ("train", "training")
_TEST_NAMES = ("test", "val", "valid", "validation")


class FolderDataset(ImageFolder):
    """Images in class subfolders, all of one size; grey ones become RGB where any has colour.

    They are read when they are first asked for, and kept in memory if all of them fit in `MEMORY` bytes.

    **Arguments:**

    - root: the folder; class ids follow the sorted names of its subfolders. Names of classes are those names in lower
        case, with spaces for underscores, so that captions can be made of them.
    - size: `(width, height)` that images are brought to. None: they all have the size of the first.

    Raises `FileNotFoundError` for a folder without images in subfolders. An image that cannot be read, or that has
    another size than the first where `size` is None, raises `ValueError` when it is asked for.
    """

    def __init__(self, root: str | os.PathLike[str], *, size: tuple[int, int] | None = None) -> None:
        root = Path(root)
        if not root.is_dir():
            raise FileNotFoundError(f"{root} is not a folder; give one with a subfolder of images for each class")
        try:
            super().__init__(str(root), loader=self._load)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{root} must hold a subfolder for each class, with images in each: {str(error).splitlines()[0]}"
            ) from None
        names: list[str] = self.classes  # type: ignore[has-type]
        self.classes = [name.replace("_", " ").lower() for name in names]
        self._resized_to = size
        first = open_image(self.samples[0][0])
        self.size = size or first.size
        self.mode = "L" if all(is_grey(path) for path, _ in self.samples) else "RGB"
        nbytes = self.size[0] * self.size[1] * (1 if self.mode == "L" else 4) * len(self.samples)  # as Pillow has it
        self._kept: dict[str, Image.Image] | None = {} if nbytes <= MEMORY else None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": None if self._kept is None else {}}  # other processes read their own

    def _load(self, path: str) -> Image.Image:
        if self._kept is None:
            return self._open(path)
        if path not in self._kept:
            self._kept[path] = self._open(path)
        return self._kept[path].copy()  # a transform may draw on what it is given

    def _open(self, path: str) -> Image.Image:
        image = open_image(path)
        if self._resized_to is not None:
            image = image.resize(self.size, Image.Resampling.LANCZOS)
        elif image.size != self.size:
            raise ValueError(
                f"{path} is {image.size[0]}x{image.size[1]} pixels and the first image of its folder "
                f"{self.size[0]}x{self.size[1]}; give the size to bring all to (size=64 or size=(64, 48))"
            )
        return image.convert(self.mode)


def open_folder(
    root: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    test_share: float = 0.2,
    seed: int = 0,
    part: tuple[int, int] = (1, 1),
) -> tuple[Subset[tuple[Image.Image, int]], Subset[tuple[Image.Image, int]]]:
    """The images to train on and the images to test on; `classes` of their `dataset` are the class names.

    If `root` has subfolders `train` and `test` (or `val`), these are they; otherwise the images of `root` are divided.

    **Arguments:**

    - size: side, or `(width, height)`, that images are brought to. None: as they are, all of one size.
    - test_share: of each class's images, where `root` is not divided already.
    - seed: of that division.
    - part: `(k, n)`: of the images to train on, only the k-th of n equal parts of each class, in the order of file
        names. What a pair was trained on and what a stream shows can thus be kept apart.

    Raises `FileNotFoundError` or `ValueError`, saying what is wrong with the folder or the arguments.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share is {test_share}; it must be between 0 and 1")
    which, parts = part
    if not 1 <= which <= parts:
        raise ValueError(f"part is {part}; it must be (k, n) with k from 1 to n")
    both = (size, size) if isinstance(size, int) else size
    root = Path(root)
    train_root, test_root = divided(root)
    if train_root is not None and test_root is not None:
        train, test = FolderDataset(train_root, size=both), FolderDataset(test_root, size=both)
        if train.classes != test.classes:
            differing = sorted(set(train.classes) ^ set(test.classes))
            raise ValueError(f"{train_root} and {test_root} hold different classes: {', '.join(differing[:5])}")
        if (train.size, train.mode) != (test.size, test.mode):
            raise ValueError(
                f"the images of {train_root} are {train.size} {train.mode}, those of {test_root} {test.size} "
                f"{test.mode}; bring them to one size and mode"
            )
        train_indices, test_indices = _by_class(train), list(range(len(test)))
    else:
        train = test = FolderDataset(root, size=both)
        train_indices, test_indices = _divide(_by_class(train), test_share, seed)
        if not all(train_indices) or not test_indices:
            raise ValueError(f"{root} has classes of a single image; each needs one to train on and one to test on")
    chosen = [
        i for of_class in train_indices for i in np.array_split(np.array(of_class, int), parts)[which - 1].tolist()
    ]
    return Subset(train, chosen), Subset(test, test_indices)


def divided(root: Path) -> tuple[Path | None, Path | None]:
    """The subfolders of images to train on and of images to test on, as far as there are any."""
    return _subfolder(root, _TRAIN_NAMES), _subfolder(root, _TEST_NAMES)


def folder_digest(root: str | os.PathLike[str]) -> str:
    """A digest of the names and sizes of all files under `root`: another one, once images have come or gone."""
    files = [Path(folder, name) for folder, _, names in os.walk(root, followlinks=True) for name in names]
    lines = sorted(f"{file.relative_to(root).as_posix()}\t{file.stat().st_size}\n" for file in files)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def _subfolder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _by_class(dataset: ImageFolder) -> list[list[int]]:
    """Indices of each class's images, in the order of file names."""
    targets = np.array(dataset.targets)
    return [np.flatnonzero(targets == label).tolist() for label in range(len(dataset.classes))]


def _divide(by_class: list[list[int]], test_share: float, seed: int) -> tuple[list[list[int]], list[int]]:
    random = np.random.RandomState(seed)  # its stream is frozen: the same division with every version of numpy
    train: list[list[int]] = []
    test: list[int] = []
    for indices in by_class:
        shuffled = random.permutation(indices).tolist()
        count = max(1, round(test_share * len(indices)))
        test += sorted(shuffled[:count])
        train.append(sorted(shuffled[count:]))
    return train, sorted(test)
