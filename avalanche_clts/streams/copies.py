"""Copies of an image where there ought to be none: in training and test images, or in two classes."""

from __future__ import annotations

import warnings
from collections.abc import Container, Sequence

from .._support.console import shown
from ..images.folders import ImageFile, same_bytes
from .layouts import Layout


def warn_of_copies(layouts: Sequence[Layout], damaged: Container[str]) -> None:
    """Warn, in one sentence that counts them, of files with the same bytes that are both trained and tested on, or are
    in two classes. Which of them are wrong is for the user to say: all are kept.

    **Arguments:**

    - damaged: paths of files that are left out.
    """
    files: list[ImageFile] = []
    tested: set[str] = set()
    class_of: dict[str, str] = {}
    for layout in layouts:
        for classes in (layout.train, layout.test or {}):
            for label, images in classes.items():
                sound = [image for image in images if image.path not in damaged]
                files += sound
                class_of.update((image.path, label) for image in sound)
                if classes is layout.test:
                    tested.update(image.path for image in sound)
    both: list[tuple[str, str]] = []  # (to test on, to train on)
    several: list[tuple[str, str]] = []
    for group in same_bytes(files):
        paths = [image.path for image in group]
        trained = [path for path in paths if path not in tested]
        both += [(path, trained[0]) for path in paths if path in tested and trained]
        other = next((path for path in paths if class_of[path] != class_of[paths[0]]), None)
        several += [(paths[0], other)] if other is not None else []
    told = []
    if both:
        told.append(
            f"{len(both)} of {len(tested)} images to test on are copies of images to train on, {_such_as(both)}"
        )
    if several:
        counted = "1 image is" if len(several) == 1 else f"{len(several)} images are"
        told.append(f"{counted} in more than one class, {_such_as(several)}")
    if told:
        warnings.warn(f"{shown(layouts[0].root)}: {'; '.join(told)}; remove those that are wrong", stacklevel=4)


def _such_as(pairs: Sequence[tuple[str, str]]) -> str:
    return f"such as {shown(pairs[0][0])} and {shown(pairs[0][1])}"
