"""Image files, and what a person sees of them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .._support.console import bar, shown

T = TypeVar("T")
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
# In `info` of what `as_seen` makes of 16 bits of which the file uses but the lower 12, undeclared.
NEARLY_BLACK = "nearly black"
_BITS_PER_SAMPLE, _COMPRESSION, _INTERPRETATION, _PLANES = 258, 259, 262, 284  # tags of TIFF
_TOLD = 10  # files that a message names, at most
_AT_ONCE = 32  # files that a thread opens before it is given more


def as_seen(image: Image.Image) -> Image.Image:
    """The image as a viewer shows it, in mode "L" or "RGB": turned upright as its EXIF data say, transparency on white,
    16 bits of grey brought to 8, a palette of greys made grey.

    Of 16 bits the upper 8 are taken; of 12, where the file declares 12, the upper 8 of these. Values that are all below
    256 are taken for 8 bits kept in 16, and as they are. What uses 12 bits undeclared comes out nearly black, with
    `NEARLY_BLACK` in its `info`: brightened by itself it would differ from others of its kind that use a little more.

    Raises `ValueError` for pixels of no known range: floating-point numbers, or integers past 16 bits; and for colours
    of 16 bits in uncompressed planes, of which Pillow takes the lower halves.
    """
    declared, tags = _declared_bits(image), getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (8,))
    if tags.get(_PLANES) == 2 and tags.get(_COMPRESSION, 1) == 1 and len(bits) > 1 and max(bits) > 8:
        raise ValueError("an image of 16-bit colours in planes, which Pillow reads wrongly; convert it first")
    is_white = tags.get(_INTERPRETATION) == 0
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("an image whose pixels are floating-point numbers, of no known range; convert it first")
    if image.mode.startswith("I"):
        seen = _in_8_bits(image, declared)
        return _inverted(seen) if is_white else seen  # Pillow inverts those of 8 bits alone
    grey = image.mode in GREY_MODES or _has_grey_palette(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        # Premultiplied modes are converted to others by way of their plain ones only.
        layer = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
        return Image.alpha_composite(white, layer).convert("L" if grey else "RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if grey else "RGB")


def _inverted(image: Image.Image) -> Image.Image:
    inverted = ImageOps.invert(image)
    inverted.info = image.info
    return inverted


def _declared_bits(image: Image.Image) -> int:
    """The bits of a grey pixel that a TIFF file says it has; 16 where none are declared."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
    return int(bits) if 8 < bits < 16 else 16


def _in_8_bits(image: Image.Image, bits: int) -> Image.Image:
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() >= 2**16:
        raise ValueError("an image whose pixels are integers past 16 bits, of no known range; convert it first")
    opaque = pixels != image.info.get("transparency", -1)
    highest = pixels[opaque].max(initial=0)
    grey = pixels if highest < 2**8 else pixels >> (bits - 8)
    seen = Image.fromarray(np.where(opaque, grey, 255).astype(np.uint8))
    if 2**8 <= highest < 2**12 and bits == 16:
        seen.info[NEARLY_BLACK] = True
    return seen


def _has_grey_palette(image: Image.Image) -> bool:
    """Whether an image with a palette uses nothing but greys of it."""
    palette = image.getpalette("RGB") if image.mode == "P" else None
    if palette is None:
        return False
    colours = np.array(palette).reshape(-1, 3)
    counts = np.array(image.histogram()[: len(colours)])
    used = colours[counts > 0]
    return bool((used == used[:, :1]).all())


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The image in a file, as `as_seen` shows it.

    Raises `ValueError`, naming the file, if Pillow cannot read it, whatever is wrong with it.
    """
    seen = _open(path)
    if isinstance(seen, Damage):
        raise ValueError(f"{seen}; remove or replace it")
    return seen


class Damage(NamedTuple):
    """A file that cannot be opened, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{shown(self.path)} is not an image that Pillow can read ({self.reason})"


def open_each(paths: Sequence[str | os.PathLike[str]], look: Callable[[str, Image.Image], T]) -> Iterator[T | Damage]:
    """What `look` makes of each file's path and image, in order, or what is wrong with the file; in threads, with a
    progress bar. Images that come out nearly black, as `as_seen` says, are warned of.

    Pixels are decoded: a header does not tell whether the rest of the file is there. Of 32x32 JPEG images, one core
    decodes some 8,000 a second and reads 20,000 headers; of 500x375 ones, 700 and 35,000.
    """

    dark: list[str] = []

    def looked(chunk: Iterable[str]) -> list[T | Damage]:
        results: list[T | Damage] = []
        for path in chunk:
            seen = _open(path)
            if not isinstance(seen, Damage) and seen.info.pop(NEARLY_BLACK, False):
                dark.append(path)
            results.append(seen if isinstance(seen, Damage) else look(path, seen))
        return results

    Image.init()  # not by several threads at a time
    files = [os.fspath(path) for path in paths]
    chunks = [files[start : start + _AT_ONCE] for start in range(0, len(files), _AT_ONCE)]
    with (
        bar(total=len(files), desc="opening images", unit="image", leave=False) as progress,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads,
    ):
        for results in threads.map(looked, chunks):
            progress.update(len(results))
            yield from results
    if dark:
        warnings.warn(
            f"{len(dark)} images of 16 bits hold no value past 12 bits and come out nearly black, such as "
            f"{shown(min(dark))}; if that is not what they show, scale all alike, to 16 bits or to 8, before",
            stacklevel=5,
        )


def require_readable(paths: Sequence[str | os.PathLike[str]], remedy: str = "remove or replace it") -> None:
    """Open every file, and raise one `ValueError` that names those that are damaged, if any are."""
    damaged = [seen for seen in open_each(paths, lambda path, image: None) if seen is not None]
    if damaged:
        raise ValueError(damage_message(damaged, len(paths), remedy))


def damage_message(damaged: Sequence[Damage], count: int, remedy: str) -> str:
    """One line on all files that are damaged, naming the first of them.

    **Arguments:**

    - count: of all files.
    - remedy: what to do, of one file.
    """
    if len(damaged) == 1:
        return f"{damaged[0]}; {remedy}"
    told = ", ".join(f"{shown(path)} ({reason})" for path, reason in damaged[:_TOLD])
    more = f" and {len(damaged) - _TOLD} more" if len(damaged) > _TOLD else ""
    return f"{len(damaged)} of {count} files are not images that Pillow can read: {told}{more}; {remedy}"


def _open(path: str | os.PathLike[str]) -> Image.Image | Damage:
    try:
        with Image.open(path) as image:
            image.load()
            return as_seen(image).copy()
    except UnidentifiedImageError:
        return Damage(os.fspath(path), "of no format that it knows")
    except Exception as error:  # decoders raise whatever they stumble over: OSError, SyntaxError, struct.error, ...
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Damage(os.fspath(path), " ".join(reason.split()))
