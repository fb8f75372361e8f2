"""What a folder holds: every image below it once, whatever else programs have left there and wherever links lead."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from .._support.console import shown

# Files of these names are taken for images: those that Pillow reads, and some that it does not, so that they are told.
_READ = "apng avif bmp dib gif j2k jfif jp2 jpe jpeg jpg pbm pcx pgm png pnm ppm tga tif tiff webp"
_UNREAD = "arw cr2 cr3 dcm dng heic heif jxl nef psd svg"
IMAGE_SUFFIXES = frozenset(f".{name}" for name in f"{_READ} {_UNREAD}".split())
# A file of another name is an image if it begins like one.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000")
# Without compression: an image that was edited in place is as long as before.
_UNCOMPRESSED = frozenset(f".{name}" for name in ["bmp", "dib", "pbm", "pgm", "pnm", "ppm", "tga", "tif", "tiff"])
_PLACES, _AT_A_PLACE = 16, 256  # and bytes that are read of such a one
# Beside names that begin with a dot: what archives, thumbnailers and file systems leave behind.
_NOBODYS = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
_NOBODYS |= {"thumbs.db", "ehthumbs.db", "desktop.ini"}


class ImageFile(NamedTuple):
    """A file that ought to be an image.

    **Arguments:**

    - path: of the file.
    - nbytes: its length; -1 of a link to nowhere.
    - changed: time of its last change, in nanoseconds.
    - identity: equal for the same file under several names.
    - is_link: whether it is a symbolic link.
    """

    path: str
    nbytes: int
    changed: int
    identity: object
    is_link: bool


@dataclass
class Folder:
    """A folder as a tree.

    **Arguments:**

    - path: of the folder.
    - images: directly in it, by name.
    - folders: directly in it, by name.
    """

    path: Path
    images: list[ImageFile] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)

    def below(self) -> list[ImageFile]:
        """All images in it and in the folders below, by folder and then by name."""
        return sorted(self._all(), key=lambda image: os.path.split(image.path))

    def holds_images(self) -> bool:
        """Whether there is an image in it or below."""
        return next(self._all(), None) is not None

    def _all(self) -> Iterator[ImageFile]:
        waiting = [self]
        while waiting:
            folder = waiting.pop()
            yield from folder.images
            waiting += folder.folders.values()


def read_tree(root: str | os.PathLike[str]) -> Folder:
    """The folder with all images below it.

    Left out are hidden files and folders, and what archives and thumbnailers leave. Links are followed, but no folder
    is entered twice and none that `root` is in, so that circles end; where a folder can be reached with and without a
    link, it is without.

    Raises `FileNotFoundError` if `root` is not a folder.
    """
    require_folder(root)
    top = Folder(Path(root))
    real_root = os.path.realpath(root)
    entered: set[str] = set()
    waiting, linked = deque([(top, real_root)]), deque[tuple[Folder, str]]()
    while waiting or linked:
        folder, real = (waiting or linked).popleft()
        if real in entered:
            continue
        entered.add(real)
        with os.scandir(folder.path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            if entry.name.startswith(".") or entry.name.lower() in _NOBODYS:
                continue
            if not _is_folder(entry):
                image = _image(entry)
                if image is not None:
                    folder.images.append(image)
                continue
            below = folder.folders[entry.name] = Folder(Path(entry.path))
            if not entry.is_symlink():
                waiting.append((below, f"{real.rstrip(os.sep)}{os.sep}{entry.name}"))
            elif not _is_in(real_root, target := os.path.realpath(entry.path)):
                linked.append((below, target))
    return top


def require_folder(root: str | os.PathLike[str]) -> None:
    """Raise `FileNotFoundError` if `root` is not a folder."""
    path = Path(root)
    if not path.is_dir():
        kind = "a file; unpack it and give" if path.is_file() else "not a folder; give"
        raise FileNotFoundError(f"{shown(root)} is {kind} one with a subfolder of images for each class")


def image_file(path: str | os.PathLike[str]) -> ImageFile:
    """The file at `path`, which must be there."""
    path = Path(path)
    found = path.stat()
    # Where the file system numbers no files, one is known by where links lead.
    identity = (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(path)
    return ImageFile(str(path), found.st_size, found.st_mtime_ns, identity, path.is_symlink())


def each_once(images: Iterable[ImageFile]) -> list[ImageFile]:
    """`images` without those that are another of them by a link, or under a second name."""
    by_path = {image.path: image for image in images}
    kept: dict[object, str] = {}
    for image in sorted(by_path.values(), key=lambda image: image.is_link):  # a file rather than a link to it
        kept.setdefault(image.identity, image.path)
    return [image for image in by_path.values() if kept[image.identity] == image.path]


def same_bytes(images: Iterable[ImageFile]) -> list[list[ImageFile]]:
    """The groups of files that are equal byte for byte, in order. Only files of equal length are read."""
    by_length: dict[int, list[ImageFile]] = {}
    for image in images:
        by_length.setdefault(image.nbytes, []).append(image)
    equal: dict[bytes, list[ImageFile]] = {}
    for alike in by_length.values():
        for image in alike if len(alike) > 1 else []:
            equal.setdefault(hashlib.sha256(Path(image.path).read_bytes()).digest(), []).append(image)
    return [group for group in equal.values() if len(group) > 1]


def folder_digest(root: str | os.PathLike[str]) -> str:
    """A digest of the names and sizes of all images under `root`: another one, once images have come or gone, or were
    edited. Of formats whose size says nothing of what they show, some bytes of each are read."""
    images = read_tree(root).below() if Path(root).is_dir() else []
    lines = sorted(
        f"{Path(image.path).relative_to(root).as_posix()}\t{image.nbytes}{_some_of(image)}\n" for image in images
    )
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def _some_of(image: ImageFile) -> str:
    """Of an image that is not compressed, a digest of bytes from all over it; of any other nothing."""
    path = Path(image.path)
    if path.suffix.lower() not in _UNCOMPRESSED or image.nbytes < 0:
        return ""
    found = hashlib.sha256()
    with path.open("rb") as content:
        for start in range(0, image.nbytes, max(1, image.nbytes // _PLACES)):
            content.seek(start)
            found.update(content.read(_AT_A_PLACE))
    return f"\t{found.hexdigest()[:16]}"


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _image(entry: os.DirEntry[str]) -> ImageFile | None:
    named = Path(entry.name).suffix.lower() in IMAGE_SUFFIXES
    try:
        if not entry.is_file() and not entry.is_symlink():
            return None  # a pipe, say
        image = image_file(entry.path)
    except OSError:  # a link to nowhere: opening it is what says so
        return ImageFile(entry.path, -1, 0, entry.path, True) if named else None
    if not named and not _begins_like_image(entry.path):
        return None
    return image


def _begins_like_image(path: str) -> bool:
    try:
        with Image.open(path, formats=_FORMATS):
            return True
    except Exception:  # whatever it is
        return False
