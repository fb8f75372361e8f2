"""Folders of images to try out what reads them: whole ones, damaged ones, and ones that links run through."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RED = (200, 30, 30)


def picture(seed: int = 0, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> Image.Image:
    pixels = np.random.RandomState(seed).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def fill(root: Path, *classes: str, count: int = 5, suffix: str = "png", **options: Any) -> Path:
    """Class subfolders with `count` images each, that are nowhere else."""
    for name in classes or ("cat", "dog"):
        folder = Path(os.fsdecode(os.fsencode(root) + b"/" + os.fsencode(name)))
        folder.mkdir(parents=True, exist_ok=True)
        seed = zlib.crc32(os.fsencode(Path(*folder.parts[-3:]))) % 2**31
        for i in range(count):
            picture(seed + i, **options).save(folder / f"{i}.{suffix}")
    return root


def split(train: str, test: str | None = None) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        fill(root / train)
        if test is not None:
            fill(root / test, count=2)

    return build


def png(image: Image.Image | None = None) -> bytes:
    buffer = io.BytesIO()
    (image or picture()).save(buffer, "PNG")
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_file(content: bytes, name: str = "bad.png") -> Callable[[Path], None]:
    def build(root: Path) -> None:
        fill(root)
        (root / "cat" / name).write_bytes(content)

    return build


def also(*steps: Callable[[Path], Any]) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        fill(root)
        for step in steps:
            step(root)

    return build


def link(name: str, target: str) -> Callable[[Path], None]:
    """A link in the folder to a path, that may be relative to the root."""

    def build(root: Path) -> None:
        (root / name).symlink_to(root / target)

    return build


def image_at(*names: str) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        for i, name in enumerate(names):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            picture(900 + i).save(root / name, "png")

    return build


def pacs(root: Path) -> None:
    for domain in ("photo", "sketch"):
        fill(root / domain / "train", mode="L" if domain == "sketch" else "RGB")
        fill(root / domain / "test", count=2)


def flat(*folders: str) -> Callable[[Path], None]:
    """Folders with images directly in them, that look like classes."""
    return lambda root: fill(root, *folders)


def both(*builds: Callable[[Path], Any]) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        for each in builds:
            each(root)

    return build


def at(folder: str, *classes: str, count: int = 5) -> Callable[[Path], Any]:
    """Class subfolders in a folder in the root."""
    return lambda root: fill(root / folder, *classes, count=count)


def copied(source: str, target: str) -> Callable[[Path], None]:
    """A copy of a file, or of a folder, in the root."""

    def build(root: Path) -> None:
        if (root / source).is_dir():
            shutil.copytree(root / source, root / target)
        else:
            shutil.copy(root / source, root / target)

    return build


def wordnet(root: Path) -> None:
    fill(root / "train", "n01443537", "n02012849", "n03126707", count=3)
    fill(root / "test", "n01443537", "n02012849", "n03126707", count=2)
    (root / "words.txt").write_text(
        "n01443537\tgoldfish, Carassius auratus\nn02012849\tcrane\nn03126707\tcrane, lifting device\nn09999999\tother\n"
    )


def mixed_sizes(root: Path) -> None:
    fill(root, "cat")
    fill(root, "dog", size=(9, 7))


def few(root: Path) -> None:
    fill(root, "cat", count=9)
    fill(root, "dog", count=3)


def animated(root: Path) -> None:
    fill(root)
    picture(7).save(root / "cat" / "a.gif", save_all=True, append_images=[picture(8)])


TOO_LARGE = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0))
BOMB = png()[:8] + TOO_LARGE + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
IDAT = png().index(b"IDAT") - 4
BROKEN = png()[: IDAT + 4] + b"\x8d\x03\x98\xa6" + png()[IDAT + 8 :]  # what it calls its pixels is no name
END = png().index(b"IEND") - 4
EMPTY_CHUNK = png()[:END] + chunk(b"sRGB", b"") + png()[END:]
FLOATS = io.BytesIO()
Image.fromarray(np.zeros((8, 8), np.float32)).save(FLOATS, "TIFF")
JPEG = io.BytesIO()
picture(size=(64, 64)).save(JPEG, "JPEG")
LATIN = os.fsdecode(b"caf\xe9")
