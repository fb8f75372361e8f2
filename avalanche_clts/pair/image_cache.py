"""Images that a generator has made, kept on disk: runs and strategies mostly regenerate the same ones."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from .._support.checks import require_whole
from .._support.files import files_below
from .abilities import offer_abilities_of
from .generators import DiffusionGenerator, Generator
from .loading import Pair, pair_identity
from .output import checked_images
from .precision import bfloat16_instructions

_LOT = 256  # images made and kept before the next are begun: what is lost if the process ends
_DATABASE = "images.sqlite"
_LIBRARIES = ("avalanche-clts", "torch", "diffusers", "transformers", "numpy", "pillow")
_ROW = 4096  # bytes that an image may take beside its own: what its pages have to spare, its key, an index


class CachedGenerator:
    """A generator that makes no image twice: what it made is kept on disk, and shared by every process that names the
    folder, at the same time or later.

    An image is taken again where all that it depends on is the same: the generator's weights and how it samples,
    prompt, seed and size, the device, and the versions of the libraries. It differs from one made anew at most by what
    a batch changes, see docs/promises.md.

    ```python
    generator = CachedGenerator(pair.generator, "my-images", max_bytes=2_000_000_000)
    pair = Pair(pair.captioner, generator)
    images = pair.generator.generate(["a small red star on navy"], seeds=[0])
    ```

    **Arguments:**

    - generator: makes what is missing.
    - folder: on a disk of this machine; made if missing. Whoever can read it can see the images.
    - max_bytes: of its file on disk; before it would grow larger, the images that were made first give way. Of at most
        256 new ones the file may be larger where they alone exceed it.
    - identity: what tells the generator from others, for one that is no `DiffusionGenerator`.

    Raises `ValueError` for a generator of which it is not known what its images depend on, and `OSError` if the folder
    cannot be written or its file is damaged.
    """

    def __init__(
        self,
        generator: Generator,
        folder: str | os.PathLike[str],
        *,
        max_bytes: int = 10_000_000_000,
        identity: str | None = None,
    ) -> None:
        require_whole("max_bytes", max_bytes)
        if identity is None and not isinstance(generator, DiffusionGenerator):
            raise ValueError(
                f"identity is None, and what images of a {type(generator).__name__} depend on is not known; "
                "give a text that tells it from others, and changes whenever its images do"
            )
        self.generator = self.wraps = generator
        self.max_bytes = max_bytes
        self.identity = identity
        self._file = Path(folder) / _DATABASE
        offer_abilities_of(generator, self)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot make {folder} ({error.strerror}); give another folder") from error
        with self._database() as database:
            # Numbers count up, whatever was deleted: the smallest is of the oldest image.
            database.execute(
                "CREATE TABLE IF NOT EXISTS images"
                " (number INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB UNIQUE, png BLOB)"
            )

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """As the generator does it."""
        return self._generate(prompts, seeds, None)

    def generate_sized(self, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int]) -> list[Image.Image]:
        """As the generator does it; images of another size are other images."""
        return self._generate(prompts, seeds, size)

    def _generate(
        self, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int] | None
    ) -> list[Image.Image]:
        if len(prompts) != len(seeds):
            raise ValueError(f"prompts and seeds must be as many: {len(prompts)} prompts, {len(seeds)} seeds")
        depends_on = self._dependencies()
        keys = [_digest([*depends_on, size, prompt, seed]) for prompt, seed in zip(prompts, seeds, strict=True)]
        with self._database() as database:
            found = {key: row[0] for key in keys if (row := _select(database, key))}
        missing = list({key: i for i, key in enumerate(keys) if key not in found}.values())
        for start in range(0, len(missing), _LOT):
            lot = missing[start : start + _LOT]
            made = checked_images(self.generator, [prompts[i] for i in lot], [seeds[i] for i in lot], size)
            new = {keys[i]: _to_png(image) for i, image in zip(lot, made, strict=True)}
            self._keep(new)
            found |= new
        return [_opened(found[key]) for key in keys]

    def _dependencies(self) -> list[Any]:
        """All that an image depends on beside prompt, seed and size, as it is now: arguments can be changed."""
        generator: Any = self.generator
        if self.identity is not None:
            return [self.identity]
        folders = [Path(name) for name in (generator.name_or_path, generator.lora, generator.autoencoder) if name]
        return [
            pair_identity(Pair(None, generator))[1],  # type: ignore[arg-type]
            [_stamp(folder) for folder in folders if folder.exists()],
            _machine(str(generator.device)),
            {name: version(name) for name in _LIBRARIES},
        ]

    def _keep(self, new: dict[bytes, bytes]) -> None:
        """Add images, in the place of the oldest if there are too many, all of them or none."""
        with self._database() as database:
            need = sum(len(png) + _ROW for png in new.values())
            while (used := _used_bytes(database)) and used + need > self.max_bytes:
                first, last = database.execute("SELECT min(number), max(number) FROM images").fetchone()
                if first is None:
                    break
                excess = (used + need - self.max_bytes) / used
                upto = first + max(1, int(min(1.0, excess) * (last - first + 1)))
                database.execute("DELETE FROM images WHERE number < ?", (upto,))
            database.executemany("INSERT OR IGNORE INTO images (key, png) VALUES (?, ?)", new.items())

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


def _select(database: sqlite3.Connection, key: bytes) -> Any:
    return database.execute("SELECT png FROM images WHERE key = ?", (key,)).fetchone()


def _used_bytes(database: sqlite3.Connection) -> int:
    """Of the file, but for what was deleted, whose place is taken by the next images."""
    pages, free, size = (
        database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _digest(parts: list[Any]) -> bytes:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


def _stamp(path: Path) -> str:
    """What changes with any file of a checkpoint, whatever it holds."""
    files = files_below(path) if path.is_dir() else [path]
    stats = [(file.relative_to(path).as_posix(), file.stat()) for file in files]
    return _digest([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]).hex()


def _machine(device: str) -> str:
    """What computes, as far as it rounds in its own way."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return " ".join([torch.device(device).type, torch.backends.cpu.get_cpu_capability(), *bfloat16_instructions()])


def _to_png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "png")
    return stream.getvalue()


def _opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    return image.copy()  # without the stream that it came from
