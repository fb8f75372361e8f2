"""What a folder of images is, or why it is refused: cases, and what holds the package to them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from avalanche_clts import split_folder
from avalanche_clts.images.avalanche import class_names
from avalanche_clts.images.folders import folder_digest


@dataclass(frozen=True)
class Case:
    """A folder, and what it is: its classes with the numbers of images to train and to test on, or why it is refused.

    **Arguments:**

    - build: fills an empty folder.
    - right: (names of classes, images to train on, images to test on), or a pattern of the one line that refuses.
    - options: of `split_folder`.
    - told: a pattern of a warning.
    """

    build: Callable[[Path], Any]
    right: tuple[list[str], int, int] | str
    options: dict[str, Any] = field(default_factory=dict)
    told: str | None = None


TWO = ["cat", "dog"]
DIVIDED, GIVEN = (TWO, 8, 2), (TWO, 10, 4)
WANTED = "wanted is train/CLASS/ and test/CLASS/"


def read_or_refused(case: Case, tmp_path: Path) -> None:
    """Whether the case is what it ought to be."""
    root = tmp_path / "photos"
    root.mkdir()
    case.build(root)
    options = ({} if "domains" in case.options else {"n_experiences": 2}) | case.options
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if isinstance(case.right, str):
            with pytest.raises((ValueError, OSError, TypeError), match=case.right) as refused:
                split_folder(root, **options)
            assert len(str(refused.value).splitlines()) == 1
            return
        benchmark = split_folder(root, **{"seed": 0, **options})
    messages = [str(warning.message) for warning in told]
    assert len(messages) == (case.told is not None), messages
    if case.told is not None:
        assert re.search(case.told, messages[0])
    names: dict[int, str] = {}
    for experience in benchmark.train_stream:
        names |= class_names(experience.dataset)
    classes, trained, tested = case.right
    assert [names[k] for k in sorted(names)] == classes
    assert sum(len(experience.dataset) for experience in benchmark.train_stream) == trained
    assert sum(len(experience.dataset) for experience in benchmark.test_stream) == tested
    for stream in (benchmark.train_stream, benchmark.test_stream):
        shapes = {tuple(x.shape) for experience in stream for x, *_ in experience.dataset}
        assert len(shapes) == 1
    assert folder_digest(root)
