"""What captions say beside their class, for captions of other classes to borrow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from random import Random
from typing import NamedTuple

from ..pair.prompts import agreeing, article
from .captions import Caption
from .mentions import Names


class _Frame(NamedTuple):
    """A caption's text around its class name."""

    before: str
    after: str


class Contexts:
    """Captions with a gap where their class name stood: "a small striped ... on navy".

    A few captions hold far more pictures than their number: any class can be put in the gap. Images that share their
    class then share nothing else, and what is learnt from them is the class, not the looks of a handful of examples.

    A caption lends its words if it names its own class, once, and no other: "a frog in the ocean with a ship behind"
    would show a ship whatever took the frog's place. Nothing but the class name is exchanged; an article right before
    it goes with the name ("an owl" lends "a cat"), where the captions have the right one.

    An experience borrows from itself and from experiences that share no class with it. Where the same classes come
    again, the rest of the caption is what tells the experiences apart, and stays where it is.

    **Arguments:**

    - captions: of all experiences; those that do not say the name of their class lend nothing.
    - name_of: the name of a caption's class, in its own experience; None where it is unknown.
    """

    def __init__(self, captions: Iterable[Caption], name_of: Callable[[Caption], str | None]) -> None:
        self._name_of = name_of
        captions = list(captions)
        self._names = Names(name for name in map(name_of, captions) if name is not None)
        classes: dict[int, set[int]] = defaultdict(set)
        frames: dict[int, list[_Frame]] = defaultdict(list)
        articles = [0, 0]  # that are right, and wrong, before names that want "an"
        for caption in captions:
            classes[caption.experience].add(caption.target)
            name = name_of(caption)
            frame = None if name is None else self._frame(caption.text, name)
            if name is not None and frame is not None:
                frames[caption.experience].append(frame)
                if article(name) == "an":
                    right, wrong = (agreeing(frame.before, other) == frame.before for other in (name, "b"))
                    if right != wrong:  # else no article
                        articles[wrong] += 1
        self._minds_articles = articles[0] >= articles[1]
        self._frames = {
            borrower: [
                frame
                for lender in classes
                if lender == borrower or not classes[lender] & classes[borrower]
                for frame in frames[lender]
            ]
            for borrower in classes
        }
        self._fitting: dict[tuple[int, str], list[_Frame]] = {}

    def borrow(self, caption: Caption, seed: int) -> str:
        """The class of `caption` in the words of another caption, which `seed` picks; its own text if there is none."""
        name = self._name_of(caption)
        frames = [] if name is None else self._frames_for(caption.experience, name)
        if not frames or name is None:
            return caption.text
        return self._filled(frames[int(Random(seed).random() * len(frames))], name)

    def _frames_for(self, experience: int, name: str) -> list[_Frame]:
        """The words that a class may be put in: those with which it does not become another class."""
        if (experience, name) not in self._fitting:
            frames = self._frames[experience]
            if self._names.may_join(name):
                frames = [frame for frame in frames if self._frame(self._filled(frame, name), name)]
            self._fitting[experience, name] = frames
        return self._fitting[experience, name]

    def _filled(self, frame: _Frame, name: str) -> str:
        before = agreeing(frame.before, name) if self._minds_articles else frame.before
        return before + name + frame.after

    def _frame(self, text: str, name: str) -> _Frame | None:
        """The text around the name, if that is all that it names."""
        mentions = self._names.mentions(text)
        if len(mentions) != 1 or not mentions[0].exact or mentions[0].name != self._names.key(name):
            return None
        return _Frame(text[: mentions[0].start], text[mentions[0].end :])
