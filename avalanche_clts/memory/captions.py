"""A caption, and the file that captions are kept in."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

_FIELDS = ("text", "class", "experience", "task", "seed")
_LARGEST = {"class": 2**31 - 1, "experience": 2**31 - 1, "task": 2**31 - 1, "seed": 2**32 - 1}
# A file may come from anywhere, and a few kilobytes of gzip can unfold to gigabytes.
_LONGEST_LINE = 2**16  # bytes
_MOST_BYTES = 2**28  # of the whole file, unfolded


@dataclass(frozen=True)
class Caption:
    """One image, as text.

    ```python
    caption = Caption("a small red star on navy", target=3, experience=0, task_label=0, seed=7)
    images = pair.generator.generate([caption.text], seeds=[caption.seed])
    ```

    **Arguments:**

    - text: what the captioner said of the image; the generator's prompt.
    - target: class of the image.
    - experience: in which it was seen, counted from 0 in the order of training.
    - task_label: Avalanche's task label of the image.
    - seed: of the noise that the image is regenerated from, 0 to 2^32 - 1.
    """

    text: str
    target: int
    experience: int
    task_label: int
    seed: int

    def copy_seed(self, copy: int) -> int:
        """The seed of this caption's `copy`-th image; that of copy 0 is `seed` itself."""
        # Odd multiplier (2^32 over the golden ratio): 2^32 copies before a seed repeats, and neighbours' seeds differ.
        return (self.seed + copy * 0x9E3779B1) % 2**32


def encode_captions(captions: Iterable[Caption]) -> bytes:
    """The captions as a file: gzipped JSON, one caption a line, which zcat shows. Equal captions are equal bytes.

    Raises `ValueError` for a caption that `decode_captions` would not take back.
    """
    lines = []
    for c in captions:
        record = dict(zip(_FIELDS, (c.text, c.target, c.experience, c.task_label, c.seed), strict=True))
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
        _caption_of(line.encode())
        lines.append(line)
    return gzip.compress("".join(lines).encode(), compresslevel=9, mtime=0)


def decode_captions(file: BinaryIO) -> list[Caption]:
    """The captions in a file that `encode_captions` made.

    Raises `ValueError`, naming the line, for any other content, however it came about: damaged, cut off, or made to do
    harm. Memory is bounded by the captions that are really there, at most a quarter of a gigabyte of text.
    """
    captions: list[Caption] = []
    unfolded = 0
    try:
        with gzip.GzipFile(fileobj=file) as lines:
            while line := lines.readline(_LONGEST_LINE + 1):
                unfolded += len(line)
                if unfolded > _MOST_BYTES:
                    raise ValueError(f"more than {_MOST_BYTES} bytes of text")
                captions.append(_caption_of(line))
    # Deeply nested brackets are a RecursionError.
    except (EOFError, OSError, zlib.error, ValueError, RecursionError) as error:
        raise ValueError(f"not a whole file of captions: line {len(captions) + 1}: {error or type(error)}") from error
    return captions


def _caption_of(line: bytes) -> Caption:
    if len(line) > _LONGEST_LINE:
        raise ValueError(f"longer than {_LONGEST_LINE} bytes")
    record = json.loads(line.decode())
    if not isinstance(record, dict) or record.keys() != set(_FIELDS):
        raise ValueError(f"must be an object with the fields {', '.join(_FIELDS)}")
    if not isinstance(record["text"], str):
        raise ValueError("text must be a text")
    record["text"].encode()  # half of a surrogate pair is no text
    for field, largest in _LARGEST.items():
        if type(record[field]) is not int or not 0 <= record[field] <= largest:
            raise ValueError(f"{field} must be a whole number from 0 to {largest}")
    return Caption(*(record[field] for field in _FIELDS))
