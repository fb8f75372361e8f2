"""Is a real image in a file? In its bytes, or as a picture in the file."""

from __future__ import annotations

import base64
import gzip
import io
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..._support.console import bar, begin
from ..._support.files import files_below
from .pixels import nearest, pixels_of

_KEY = 8  # bytes of an image that are looked for first
_MOST = 2**28  # bytes that a compressed file may unfold to
_LARGEST_PICTURE = 2**24  # bytes
_DATA_URL = re.compile(rb"data:image/[a-z]+;base64,([A-Za-z0-9+/=]+)")
_PICTURES = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP", re.DOTALL)
_PADDING = 2  # pixels between the images of a torchvision grid


class RealImages:
    """Images of a stream, to be looked for in files.

    **Arguments:**

    - images: all of one size and mode.
    - threshold: root mean square difference of pixels in [0, 1] below which a picture is taken for one of them.
    """

    def __init__(self, images: Sequence[Image.Image], threshold: float) -> None:
        self.pixels = pixels_of(images)
        self.size, self.mode = images[0].size, images[0].mode
        self.threshold = threshold
        self._forms: dict[bytes, list[tuple[int, bytes]]] = defaultdict(list)
        for image in images:
            for form in _forms(np.asarray(image)):
                place = _most_telling(form)
                if place is not None:
                    self._forms[form[place : place + _KEY]].append((place, form))
        self._keys = np.unique(np.frombuffer(b"".join(self._forms), dtype="<u8"))

    def count_in(self, file: Path) -> int:
        """How many real images `file` holds, as far as can be seen."""
        found = 0
        for content in _contents(file):
            found += self._count_bytes(content)
            pictures = [part for picture in _pictures(content) for part in self._parts(picture)]
            if pictures:
                distances = np.concatenate(
                    [nearest(pixels_of(pictures[i : i + 500]), self.pixels) for i in range(0, len(pictures), 500)]
                )
                found += int((distances < self.threshold).sum())
        return found

    def _count_bytes(self, content: bytes) -> int:
        found = set()
        for shift in range(min(_KEY, len(content) - _KEY + 1)):
            words = np.frombuffer(content, dtype="<u8", offset=shift, count=(len(content) - shift) // _KEY)
            for i in np.flatnonzero(np.isin(words, self._keys)).tolist():
                at = shift + i * _KEY
                for place, form in self._forms[content[at : at + _KEY]]:
                    start = at - place
                    if start >= 0 and content.startswith(form, start):
                        found.add(start)
        return len(found)

    def _parts(self, picture: Image.Image) -> Iterator[Image.Image]:
        """The picture, and, where it may be a grid, each image of the grid, in the size of the real ones."""
        width, height = picture.size
        pieces = [picture]
        for side in range(4, min(width, height) // 2 + 1):
            step = side + _PADDING
            if (width - _PADDING) % step == 0 and (height - _PADDING) % step == 0:
                pieces += [
                    picture.crop((x, y, x + side, y + side))
                    for y in range(_PADDING, height, step)
                    for x in range(_PADDING, width, step)
                ]
        for piece in pieces:
            yield piece.convert(self.mode).resize(self.size, Image.Resampling.BOX)


def search(folder: Path, real: RealImages) -> dict[str, int]:
    """The files under `folder` that hold real images, and how many each."""
    files = [path for path in files_below(folder) if path.is_file()]
    counts = {}
    begin(f"searching {len(files)} files for real images")
    for file in bar(files, desc="searching the files", unit="file", leave=False):
        count = real.count_in(file)
        if count:
            counts[str(file.relative_to(folder))] = count
    return counts


def _forms(pixels: NDArray[np.uint8]) -> Iterator[bytes]:
    """What an image's bytes may look like: channels last or first, as whole numbers or as fractions."""
    orders = [pixels] if pixels.ndim == 2 else [pixels, np.ascontiguousarray(pixels.transpose(2, 0, 1))]
    for order in orders:
        yield order.tobytes()
        for kind in (np.float32, np.float16):
            yield order.astype(kind).tobytes()
            yield (order.astype(np.float32) / 255).astype(kind).tobytes()


def _most_telling(form: bytes) -> int | None:
    """Where the form's bytes are most varied; None where it is all but blank."""
    places = range(0, len(form) - _KEY + 1, _KEY // 2)
    variety, place = max((len(set(form[i : i + _KEY])), -i) for i in places)
    return -place if variety > 3 else None


def _contents(file: Path) -> Iterator[bytes]:
    """What a file holds: itself, what it unfolds to, and what is encoded in it as text."""
    content = file.read_bytes()
    if content.startswith(b"SQLite format 3"):
        yield from _cells(file)
        return
    if content.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as unfolded:
            content = unfolded.read(_MOST)
    yield content
    for encoded in _DATA_URL.findall(content):
        yield base64.b64decode(encoded + b"==")


def _cells(database: Path) -> Iterator[bytes]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                yield from (_as_bytes(cell) for cell in row if isinstance(cell, (bytes, str)))
    finally:
        connection.close()


def _as_bytes(cell: Any) -> bytes:
    return cell if isinstance(cell, bytes) else str(cell).encode()


def _pictures(content: bytes) -> Iterator[Image.Image]:
    """Whatever opens as a picture, wherever in the content it begins."""
    for found in _PICTURES.finditer(content):
        try:
            picture = Image.open(io.BytesIO(content[found.start() : found.start() + _LARGEST_PICTURE]))
            picture.load()
        except Exception:  # a few bytes that look like a picture's beginning: Pillow raises many kinds of errors
            continue
        yield picture
