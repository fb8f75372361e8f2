"""What CLTS keeps of the past: captions. Text and numbers only."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from .._support.checks import require_whole
from .._support.files import write_bytes
from .captions import Caption, decode_captions, encode_captions


class Prompt(NamedTuple):
    """An image to generate: what it is an image of, in which words, and from which noise."""

    caption: Caption
    text: str
    seed: int


class CaptionMemory:
    """Captions of all experiences so far, within a budget.

    ```python
    memory = CaptionMemory(captions_per_class=20)
    memory.add([Caption("a small red star on navy", target=3, experience=0, task_label=0, seed=7)])
    memory.write("captions.jsonl.gz")
    images = pair.generator.generate([prompt.text for prompt in memory.prompts(2)], seeds=[7, 8])
    ```

    **Arguments:**

    - max_size: captions kept at most, in equal parts for all classes seen; a class that comes back keeps its part.
        None for no limit.
    - captions_per_class: captions kept of each class of each experience. None for no limit.

    At least one of the two must be given.
    """

    def __init__(self, *, max_size: int | None = None, captions_per_class: int | None = None) -> None:
        require_whole("max_size", max_size, none="no limit")
        require_whole("captions_per_class", captions_per_class, none="no limit")
        if max_size is None and captions_per_class is None:
            raise ValueError("max_size and captions_per_class are both None; give at least one of them")
        self.max_size = max_size
        self.captions_per_class = captions_per_class
        self.captions: list[Caption] = []

    def __len__(self) -> int:
        return len(self.captions)

    def __iter__(self) -> Iterator[Caption]:
        return iter(self.captions)

    @property
    def experiences(self) -> list[int]:
        """The experiences that the captions come from, in increasing order."""
        return sorted({caption.experience for caption in self.captions})

    def quota(self, new_classes: Iterable[int]) -> int:
        """How many captions of each of `new_classes` are worth writing: more would not be kept."""
        quota = self.captions_per_class
        if self.max_size is not None:
            classes = {caption.target for caption in self.captions} | set(new_classes)
            share = -(-self.max_size // len(classes))
            quota = share if quota is None else min(quota, share)
        assert quota is not None
        return quota

    def add(self, captions: Iterable[Caption]) -> None:
        """Add the captions of an experience, then make room: within each class, the oldest experiences and the newest
        of their captions give way in turn, so that every experience in which the class was seen keeps its share."""
        self.captions += captions
        if self.max_size is not None:
            self.resize(self.max_size)

    def discard(self, captions: Iterable[Caption]) -> None:
        """Take captions out."""
        unwanted = {id(caption) for caption in captions}
        self.captions = [caption for caption in self.captions if id(caption) not in unwanted]

    def resize(self, max_size: int) -> None:
        """Set the budget and drop what exceeds it, in equal parts from the largest classes."""
        require_whole("max_size", max_size)
        self.max_size = max_size
        by_class: dict[int, dict[int, list[Caption]]] = defaultdict(lambda: defaultdict(list))
        for caption in self.captions:
            by_class[caption.target][caption.experience].append(caption)
        for _ in range(len(self.captions) - max_size):
            largest = max(by_class.values(), key=lambda groups: sum(map(len, groups.values())))
            max(largest.values(), key=len).pop()
        kept = {id(c) for groups in by_class.values() for group in groups.values() for c in group}
        self.captions = [caption for caption in self.captions if id(caption) in kept]

    def prompts(
        self, count: int | None = None, *, rephrase: Callable[[Caption, int], str] | None = None
    ) -> list[Prompt]:
        """`count` images to generate, in equal parts for every experience and, within it, for every class.

        Where there are more images than captions, a caption serves several times, each time from other noise; where
        there are fewer, captions, and where there are very few, classes and experiences take turns from experience to
        experience. None: one image for each caption.

        **Arguments:**

        - rephrase: given a caption and the seed, the words of its second and further images. None: the caption's own.
        """
        require_whole("count", count, none="one image a caption")
        if count is None:
            return [Prompt(caption, caption.text, caption.seed) for caption in self.captions]
        groups: dict[int, dict[int, list[Caption]]] = defaultdict(lambda: defaultdict(list))
        for caption in self.captions:
            groups[caption.experience][caption.target].append(caption)
        prompts = []
        turn = len(groups)  # moves on with every experience
        for by_class, share in zip(groups.values(), _equal_parts(count, len(groups), turn), strict=True):
            for captions, n in zip(by_class.values(), _equal_parts(share, len(by_class), turn), strict=True):
                for i in range(n):
                    copy, position = divmod(i, len(captions))
                    caption = captions[(position + turn * n) % len(captions)]
                    seed = caption.copy_seed(copy)
                    text = caption.text if copy == 0 or rephrase is None else rephrase(caption, seed)
                    prompts.append(Prompt(caption, text, seed))
        return prompts

    def to_bytes(self) -> bytes:
        """The captions as they are written to disk: gzipped JSON, one caption a line."""
        return encode_captions(self.captions)

    @property
    def nbytes(self) -> int:
        """Bytes that the captions take on disk, compressed."""
        return len(self.to_bytes()) if self.captions else 0

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the captions to `path` (by convention `captions.jsonl.gz`), whole or not at all."""
        write_bytes(Path(path), self.to_bytes())

    def read(self, path: str | os.PathLike[str]) -> None:
        """Replace the captions by those in the file that `write` wrote.

        Raises `ValueError`, naming the line, if the file is damaged; the captions in memory are then unchanged.
        """
        with Path(path).open("rb") as file:
            try:
                self.captions = decode_captions(file)
            except ValueError as error:
                raise ValueError(f"{path} is {error}") from error


def _equal_parts(total: int, parts: int, turn: int) -> list[int]:
    """As equal as whole numbers can be; where there is not one for each, those that get one take turns."""
    first = turn * total if total < parts else 0
    return [total // parts + ((i - first) % parts < total % parts) for i in range(parts)]
