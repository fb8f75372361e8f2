"""Images that a generator has made, kept on disk: variants of one strategy mostly regenerate the same ones."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from ...pair.abilities import offer_abilities_of
from ...pair.generators import Generator
from ...pair.output import checked_images


class RememberingGenerator:
    """A generator that makes no image twice, for runs that are not timed.

    **Arguments:**

    - generator: makes what is missing.
    - identity: of the generator and of how it samples; images of another identity are not taken.
    - file: an SQLite database, made if missing; several processes may share it.

    Raises `OSError` if the file is damaged or cannot be written.
    """

    def __init__(self, generator: Generator, identity: str, file: Path) -> None:
        self._generator = generator
        self._identity = identity
        self._file = file
        offer_abilities_of(generator, self)
        with self._database() as database:
            database.execute("CREATE TABLE IF NOT EXISTS images (key TEXT PRIMARY KEY, png BLOB)")

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """As the generator does it."""
        return self._generate(prompts, seeds, None)

    def generate_sized(self, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int]) -> list[Image.Image]:
        """As the generator does it; images of another size are other images."""
        return self._generate(prompts, seeds, size)

    def _generate(
        self, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int] | None
    ) -> list[Image.Image]:
        at = "" if size is None else f" at {size[0]}x{size[1]}"
        keys = [f"{self._identity}{at}\n{seed}\n{prompt}" for prompt, seed in zip(prompts, seeds, strict=True)]
        with self._database() as database:
            found = {key: row[0] for key in keys if (row := _select(database, key))}
        missing = [i for i, key in enumerate(keys) if key not in found]
        if missing:
            made = checked_images(self._generator, [prompts[i] for i in missing], [seeds[i] for i in missing], size)
            new = {keys[i]: _to_png(image) for i, image in zip(missing, made, strict=True)}
            with self._database() as database:
                database.executemany("INSERT OR IGNORE INTO images VALUES (?, ?)", new.items())
            found |= new
        return [Image.open(io.BytesIO(found[key])) for key in keys]

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._file, timeout=300)) as database, database:
                yield database
        except sqlite3.Error as error:
            raise OSError(
                f"the images in {self._file} cannot be used ({error}); make room if the disk is full, or remove the "
                "file: its images are made again"
            ) from error


def _select(database: sqlite3.Connection, key: str) -> Any:
    return database.execute("SELECT png FROM images WHERE key = ?", (key,)).fetchone()


def _to_png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "png")
    return stream.getvalue()
