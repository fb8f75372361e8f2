"""Class names that a data set knows: the right ones, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import Subset


def names_of(source: Any, samples: Mapping[int, int]) -> dict[int, str] | None:
    """The names that `source` (torchvision's `classes`) gives to classes, or None where they may be others'.

    Names are taken only where nothing between the classes of the stream and the names can have renumbered them: no
    `target_transform`, no wrapper but torch's `Subset`, a name for every target, and no targets that were counted anew
    from 0 beside names that were not.

    **Arguments:**

    - source: a map-style data set of `(image, target, ...)`.
    - samples: index of a sample in `source`, by the class that the stream says it has.
    """
    indices = dict(samples)
    while isinstance(source, Subset):
        indices = {target: source.indices[i] for target, i in indices.items()}
        source = source.dataset
    names = getattr(source, "classes", None)
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(n, str) for n in names):
        return None
    if getattr(source, "target_transform", None) is not None or not _numbered_as(source, names):
        return None
    found = {}
    for target, index in indices.items():
        if not 0 <= target < len(names) or int(source[index][1]) != target:
            return None
        found[target] = names[target]
    return found


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
