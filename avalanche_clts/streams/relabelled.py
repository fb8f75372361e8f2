"""Data sets of others as our streams want them: images of one size, plain class ids, and names for the classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from PIL.Image import Image, Resampling
from torch.utils.data import Dataset


class RelabelledImages(Dataset[tuple[Image, int]]):
    """The images of another data set under targets and names that it does not give them itself.

    **Arguments:**

    - images: `images[i]` is a tuple that begins with a PIL image.
    - targets: `targets[i]` is the class of `images[i]`.
    - classes: names of the classes, by class id. None: unknown.
    - size: side, or `(width, height)`, that images are brought to as they are read. None: as they are.
    """

    def __init__(
        self,
        images: Any,
        targets: Iterable[int],
        classes: Sequence[str] | None,
        size: int | tuple[int, int] | None = None,
    ) -> None:
        self.images = images
        self.targets = [int(target) for target in targets]
        self.classes = None if classes is None else list(classes)
        self.size = (size, size) if isinstance(size, int) else size

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        image = self.images[index][0]
        if self.size is not None and image.size != self.size:
            image = image.resize(self.size, Resampling.LANCZOS)
        return image, self.targets[index]


def names_of_folders(files: Iterable[tuple[Any, ...]]) -> list[str] | None:
    """The names of classes, by class id, where each class has a folder of its own that its images lie in.

    None where some class from 0 on has no image, or images in several folders.

    **Arguments:**

    - files: tuples that begin with a path and a class id.
    """
    found: dict[int, set[str]] = {}
    for path, target, *_ in files:
        found.setdefault(int(target), set()).add(PurePath(path).parent.name)
    if set(found) != set(range(len(found))) or any(len(names) > 1 for names in found.values()):
        return None
    return [found[target].pop() for target in range(len(found))]
