"""What captions say beside their class, for captions of other classes to borrow."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from random import Random
from typing import NamedTuple

from .captions import Caption


class _Frame(NamedTuple):
    """A caption's text around its class name."""

    before: str
    after: str


class Contexts:
    """Captions with a gap where their class name stood: "a small striped ... on navy".

    A few captions hold far more pictures than their number: any class can be put in the gap. Images that share their
    class then share nothing else, and what is learnt from them is the class, not the looks of a handful of examples.

    An experience borrows from itself and from experiences that share no class with it. Where the same classes come
    again, the rest of the caption is what tells the experiences apart, and stays where it is.

    **Arguments:**

    - captions: of all experiences; those that do not say the name of their class lend nothing.
    - name_of: the name of a caption's class, in its own experience; None where it is unknown.
    """

    def __init__(self, captions: Iterable[Caption], name_of: Callable[[Caption], str | None]) -> None:
        self._name_of = name_of
        frames: dict[int, list[_Frame]] = defaultdict(list)
        classes: dict[int, set[int]] = defaultdict(set)
        for caption in captions:
            classes[caption.experience].add(caption.target)
            name = name_of(caption)
            frame = None if name is None else _frame(caption.text, name)
            if frame is not None:
                frames[caption.experience].append(frame)
        self._frames = {
            borrower: [
                frame
                for lender in classes
                if lender == borrower or not classes[lender] & classes[borrower]
                for frame in frames[lender]
            ]
            for borrower in classes
        }

    def borrow(self, caption: Caption, seed: int) -> str:
        """The class of `caption` in the words of another caption, which `seed` picks; its own text if there is none."""
        frames, name = self._frames[caption.experience], self._name_of(caption)
        if not frames or name is None:
            return caption.text
        before, after = frames[int(Random(seed).random() * len(frames))]
        return before + name + after


def _frame(text: str, class_name: str) -> _Frame | None:
    found = re.search(rf"(?<!\w){re.escape(class_name)}(?!\w)", text, re.IGNORECASE)
    return None if found is None else _Frame(text[: found.start()], text[found.end() :])
