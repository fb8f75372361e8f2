"""Folders of images, a subfolder a class, as data sets: so that users bring their own images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from PIL import Image
from torch.utils.data import Dataset, Subset

from .._support.checks import require_whole
from .._support.console import shown
from ..images.files import Damage, damage_message, open_each, open_image
from ..images.folders import read_tree
from .copies import warn_of_copies
from .layouts import Classes, Layout, class_folders, read_layout, without_copies

MEMORY = 1 << 30  # bytes of images that are kept, once read
# As Python has them: named streams and commands have words of their own for these.
_SIZE = "give the size to bring all to (size=64 or size=(64, 48))"
_LARGEST = 1 << 14  # pixels a side: an image of this size takes 800 MB
_SKIP = "remove or replace it, or go on without (skip_damaged=True)"

# What is opened and still in use, by its files, their lengths and their last changes: it is not opened again.
_opened: WeakValueDictionary[object, FolderImages] = WeakValueDictionary()

ImageSubset = Subset[tuple[Image.Image, int]]


class FolderImages:
    """Image files that have all been opened, of one size and mode.

    Those that fit in `MEMORY` bytes all together are kept, and not opened again.

    **Arguments:**

    - paths: of the files.
    - size: `(width, height)` that they are brought to. None: they all have the size of the first.
    - skip_damaged: whether to go on without those that cannot be opened, with a warning.

    Raises `ValueError`, naming the files, if some cannot be opened, or have other sizes where `size` is None.
    """

    def __init__(self, paths: Sequence[str], *, size: tuple[int, int] | None, skip_damaged: bool = False) -> None:
        self._resized_to = size
        self._kept: dict[str, Image.Image] | None = {}
        self.damaged: set[str] = set()
        damaged: list[Damage] = []
        sizes: dict[str, tuple[int, int]] = {}
        self.mode, nbytes = "L", 0
        for path, seen in zip(paths, open_each(paths, self._brought_to_size), strict=True):
            if isinstance(seen, Damage):
                damaged.append(seen)
                continue
            sizes[path] = seen.size
            self.mode = "L" if self.mode == seen.mode == "L" else "RGB"
            nbytes += seen.width * seen.height * (1 if seen.mode == "L" else 4)  # as Pillow has it
            if self._kept is not None:
                self._kept[path] = seen
            if nbytes > MEMORY:
                self._kept = None
        self.size = size or next(iter(sizes.values()), (0, 0))
        fatal = damaged and (not skip_damaged or not sizes)
        wrong = [damage_message(damaged, len(paths), _SKIP)] if fatal else []
        wrong += _other_sizes(sizes, self.size)
        if wrong:
            raise ValueError("; and ".join(wrong))
        if damaged:
            warnings.warn(damage_message(damaged, len(paths), f"{len(damaged)} left out"), stacklevel=4)
            self.damaged = {damage.path for damage in damaged}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": None if self._kept is None else {}}  # other processes read their own

    def __getitem__(self, path: str) -> Image.Image:
        image = None if self._kept is None else self._kept.get(path)
        if image is None:
            image = self._brought_to_size(path, open_image(path))
            if image.size != self.size:
                raise ValueError(f"{shown(path)} has changed since it was first opened; start again")
            if self._kept is not None:
                self._kept[path] = image
        # A transform may draw on what it is given.
        return image.copy() if image.mode == self.mode else image.convert(self.mode)

    def _brought_to_size(self, path: str, image: Image.Image) -> Image.Image:
        if self._resized_to is None or image.size == self._resized_to:
            return image
        return image.resize(self._resized_to, Image.Resampling.LANCZOS)


def _other_sizes(sizes: Mapping[str, tuple[int, int]], size: tuple[int, int]) -> list[str]:
    """What is wrong with the images that have another size, if there are any."""
    others = [path for path, its in sizes.items() if its != size]
    if not others:
        return []
    (width, height), count = sizes[others[0]], "" if len(others) == 1 else f"; {len(others)} images differ"
    first = f"the first image {size[0]}x{size[1]}"
    return [f"{shown(others[0])} is {width}x{height} pixels and {first}; {_SIZE}{count}"]


class FolderDataset(Dataset[tuple[Image.Image, int]]):
    """Images in class subfolders, all of one size; grey ones become RGB where any has colour.

    All are opened at once, and kept in memory if they fit in `MEMORY` bytes.

    **Arguments:**

    - root: the folder; class ids follow the sorted names of its subfolders, and `classes` are these names.
    - size, skip_damaged: as `FolderImages` takes them.

    Raises `FileNotFoundError` for a folder without images in subfolders, or in one of them, and what `FolderImages`
    raises.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, size: tuple[int, int] | None = None, skip_damaged: bool = False
    ) -> None:
        tree = read_tree(root)
        layout = without_copies([Layout(tree.path, class_folders(tree), None, tree.path)])[0]
        paths = [file.path for files in layout.train.values() for file in files]
        self._fill(layout.train, layout.words, FolderImages(paths, size=size, skip_damaged=skip_damaged))

    @classmethod
    def of(cls, classes: Classes, root: Path, images: FolderImages) -> FolderDataset:
        """The data set of `classes`, whose files have been opened, in `root`."""
        dataset = cls.__new__(cls)
        dataset._fill(classes, root, images)
        return dataset

    def _fill(self, classes: Classes, root: Path, images: FolderImages) -> None:
        self.images = images
        self.root = str(root)
        self.classes = list(classes)
        self.samples = [
            (file.path, target)
            for target, files in enumerate(classes.values())
            for file in files
            if file.path not in images.damaged
        ]
        self.targets = [target for _, target in self.samples]

    @property
    def size(self) -> tuple[int, int]:
        """`(width, height)` of every image, in pixels."""
        return self.images.size

    @property
    def mode(self) -> str:
        """Of every image: "L" or "RGB"."""
        return self.images.mode

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        path, target = self.samples[index]
        return self.images[path], target


def open_folder(
    root: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    test_share: float = 0.2,
    seed: int = 0,
    part: tuple[int, int] = (1, 1),
    skip_damaged: bool = False,
) -> tuple[ImageSubset, ImageSubset]:
    """The images to train on and the images to test on; `classes` of their `dataset` are the class names.

    If `root` has subfolders `train` and `test` (or `val`), these are they; otherwise the images of `root`, or of its
    `train` alone, are divided.

    **Arguments:**

    - size: side, or `(width, height)`, that images are brought to. None: as they are, all of one size.
    - test_share: of each class's images, where `root` is not divided already.
    - seed: of that division.
    - part: `(k, n)`: of the images to train on, only the k-th of n equal parts of each class, in the order of file
        names. What a pair was trained on and what a stream shows can thus be kept apart.
    - skip_damaged: whether to go on without files that cannot be opened, with a warning that counts them.

    Raises `FileNotFoundError` or `ValueError`, saying what is wrong with the folder or the arguments.
    """
    require_folder_arguments(size, test_share, part, skip_damaged)
    require_whole("seed", seed, least=0)
    opened = open_layouts(
        [read_layout(root)], size=size, test_share=test_share, seed=seed, part=part, skip_damaged=skip_damaged
    )
    return opened[0]


def require_folder_arguments(size: Any, test_share: Any, part: Any, skip_damaged: Any) -> None:
    """Raise `ValueError` or `TypeError` for arguments that `open_folder` does not take."""
    sides = size if isinstance(size, (tuple, list)) else [size]
    if size is not None and not (
        len(sides) <= 2 and sides and all(_is_whole(side) and 1 <= side <= _LARGEST for side in sides)
    ):
        raise ValueError(
            f"size is {size!r}; it must be a side of 1 to {_LARGEST} pixels, such as 64, or (width, height), or None"
        )
    if isinstance(test_share, bool) or not isinstance(test_share, (int, float)) or not 0 < test_share < 1:
        raise ValueError(f"test_share is {test_share}; it must be between 0 and 1")
    if not (isinstance(part, (tuple, list)) and len(part) == 2 and all(map(_is_whole, part))) or not (
        1 <= part[0] <= part[1]
    ):
        raise ValueError(f"part is {part}; it must be (k, n) with k from 1 to n")
    if not isinstance(skip_damaged, bool):
        raise TypeError(f"skip_damaged is {skip_damaged!r}; it must be True or False")


def open_layouts(
    layouts: Sequence[Layout],
    *,
    size: int | tuple[int, int] | None = None,
    test_share: float = 0.2,
    seed: int = 0,
    part: tuple[int, int] = (1, 1),
    skip_damaged: bool = False,
) -> list[tuple[ImageSubset, ImageSubset]]:
    """The images to train on and to test on of each of several layouts, all of one size and mode.

    **Arguments:** as `open_folder` takes them.
    """
    layouts = without_copies(layouts)
    for layout in layouts:  # what is too little before any is opened
        _divided(layout, set(), test_share, seed, part)
    sides = [side for layout in layouts for side in (layout.train, layout.test or {})]
    paths = [file.path for side in sides for files in side.values() for file in files]
    both = (size, size) if isinstance(size, int) else None if size is None else (size[0], size[-1])
    files = [file[:3] for side in sides for files in side.values() for file in files]
    key = (tuple(files), both, skip_damaged)
    images = _opened.get(key)
    if images is None:
        images = _opened[key] = FolderImages(paths, size=both, skip_damaged=skip_damaged)
        warn_of_copies(layouts, images.damaged)
    opened = []
    for layout in layouts:
        train_indices, test_indices = _divided(layout, images.damaged, test_share, seed, part)
        train = FolderDataset.of(layout.train, layout.words, images)
        test = train if layout.test is None else FolderDataset.of(layout.test, layout.words, images)
        opened.append((Subset(train, train_indices), Subset(test, test_indices)))
    return opened


def parts_of(images: ImageSubset, parts: int) -> list[ImageSubset]:
    """`images`, of a `FolderDataset`, in `parts` that are equal within each class; they may leave classes out."""
    by_class: dict[int, list[int]] = {}
    for index in images.indices:
        by_class.setdefault(images.dataset.targets[index], []).append(index)  # type: ignore[attr-defined]
    return [
        Subset(images.dataset, [i for of_class in by_class.values() for i in _part(of_class, which, parts)])
        for which in range(1, parts + 1)
    ]


def _part(indices: Sequence[int], which: int, parts: int) -> list[int]:
    part: list[int] = np.array_split(np.array(indices, int), parts)[which - 1].tolist()
    return part


def _divided(
    layout: Layout, damaged: set[str], test_share: float, seed: int, part: tuple[int, int]
) -> tuple[list[int], list[int]]:
    """Indices of the images to train on and to test on among those of a layout that are not damaged.

    Raises `ValueError` if that leaves a class out.
    """
    by_class, test = _by_class(layout.train, damaged), []
    of_test = by_class if layout.test is None else _by_class(layout.test, damaged)
    gone = [label for indices in (by_class, of_test) for label, found in indices.items() if not found]
    if gone:
        raise ValueError(
            f"{shown(layout.root)} has no image of {shown(gone[0])} that can be opened; replace some, or "
            "remove the class"
        )
    if layout.test is not None:
        test = [i for indices in of_test.values() for i in indices]
    else:
        single = [label for label, indices in by_class.items() if len(indices) == 1]
        if single:
            raise ValueError(
                f"{shown(layout.root)} has classes of a single image, such as {shown(single[0])}; each needs one to "
                "train on and one to test on"
            )
        by_class, test = _divide(by_class, test_share, seed)
        few = [label for label, indices in by_class.items() if not indices]
        if few:
            raise ValueError(
                f"test_share is {test_share}, which leaves no image of {shown(few[0])} to train on; give a smaller one"
            )
    chosen = {label: _part(indices, *part) for label, indices in by_class.items()}
    left_out = [label for label, indices in chosen.items() if not indices]
    if left_out:
        fewest = min(map(len, by_class.values()))
        raise ValueError(
            f"part is {part[0]}/{part[1]}, and {shown(layout.root)} has {len(by_class[left_out[0]])} images of "
            f"{shown(left_out[0])} to train on, so that this part has none; give at most {fewest} parts"
        )
    return [i for indices in chosen.values() for i in indices], test


def _by_class(classes: Classes, damaged: set[str]) -> dict[str, list[int]]:
    """Indices of each class's images, in the order of file names."""
    found: dict[str, list[int]] = {}
    start = 0
    for label, files in classes.items():
        count = sum(file.path not in damaged for file in files)
        found[label] = list(range(start, start + count))
        start += count
    return found


def _divide(by_class: Mapping[str, list[int]], test_share: float, seed: int) -> tuple[dict[str, list[int]], list[int]]:
    random = np.random.RandomState(seed)  # its stream is frozen: the same division with every version of numpy
    train: dict[str, list[int]] = {}
    test: list[int] = []
    for label, indices in by_class.items():
        shuffled = random.permutation(indices).tolist()
        count = max(1, round(test_share * len(indices)))
        test += sorted(shuffled[:count])
        train[label] = sorted(shuffled[count:])
    return train, sorted(test)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
