"""Class names that a data set knows: the right ones, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch.utils.data import Subset
from torchvision.datasets import DatasetFolder

# Of all the labels of a data set, and the folder that it lies in, if that is known: the names that are meant.
Reading = Callable[[Sequence[str], Path | None], Sequence[str]]


def as_they_are(labels: Sequence[str], folder: Path | None) -> Sequence[str]:
    """The labels."""
    return labels


def names_of(source: Any, samples: Mapping[int, int], reading: Reading = as_they_are) -> dict[int, str] | None:
    """The names that `source` (torchvision's `classes`) gives to classes, or None where they may be others'.

    Names are taken only where nothing between the classes of the stream and the names can have renumbered them: no
    `target_transform`, no wrapper but torch's `Subset`, a name for every target, and no targets that were counted anew
    from 0 beside names that were not.

    **Arguments:**

    - source: a map-style data set of `(image, target, ...)`.
    - samples: index of a sample in `source`, by the class that the stream says it has.
    - reading: makes names of the labels.
    """
    indices = dict(samples)
    while isinstance(source, Subset):
        indices = {target: source.indices[i] for target, i in indices.items()}
        source = source.dataset
    names = _labels(source)
    if names is None:
        return None
    if getattr(source, "target_transform", None) is not None or not _numbered_as(source, names):
        return None
    for target, index in indices.items():
        if not 0 <= target < len(names) or int(source[index][1]) != target:
            return None
        if _subfolder(source, index) not in (None, names[target]):
            return None
    read = reading(names, _folder(source))
    return {target: read[target] for target in indices}


def _labels(source: Any) -> list[str] | None:
    """One for each class: torchvision's `classes` (of ImageNet, the first of each class's words), or the `id2label` of
    Avalanche's Tiny ImageNet."""
    names = getattr(source, "classes", None)
    by_id = getattr(source, "id2label", None)
    if names is None and isinstance(by_id, Mapping) and set(by_id) == set(range(len(by_id))):
        names = [by_id[i] for i in range(len(by_id))]
    if isinstance(names, str) or not isinstance(names, Sequence):
        return None
    firsts = [name[0] if isinstance(name, tuple) and name else name for name in names]
    return firsts if all(isinstance(name, str) for name in firsts) else None


def _folder(source: Any) -> Path | None:
    folder = getattr(source, "data_folder", None) or getattr(source, "root", None)
    return Path(folder) if isinstance(folder, (str, Path)) else None


def _subfolder(source: Any, index: int) -> str | None:
    """The class subfolder that a sample of torchvision's `DatasetFolder` lies in; None where it is named otherwise than
    a class."""
    if not isinstance(source, DatasetFolder):
        return None
    with suppress(ValueError, IndexError, TypeError):
        folder = Path(source.samples[index][0]).relative_to(source.root).parts[0]
        return folder if folder in source.classes else None
    return None


def _numbered_as(source: Any, names: Sequence[str]) -> bool:
    """Whether the data set's own targets look as if they had been counted like `names`."""
    targets = getattr(source, "targets", None)
    if targets is None:
        return True
    distinct = {int(target) for target in targets}
    if distinct and not (min(distinct) >= 0 and max(distinct) < len(names)):
        return False
    # Some of the classes, numbered from 0 without a gap: chosen and counted anew, under the names of all.
    if len(distinct) < len(names) and distinct == set(range(len(distinct))):
        return False
    index_of = getattr(source, "class_to_idx", None)
    return not isinstance(index_of, Mapping) or all(index_of.get(name, i) == i for i, name in enumerate(names))


def class_name_of(names: Sequence[str] | Mapping[int, str], target: int) -> str | None:
    """The name that a user's sequence or mapping gives to a class."""
    if isinstance(names, Mapping):
        return names.get(target)
    return names[target] if target < len(names) else None
