"""What a pair makes of a few images, in one picture, and what looks wrong about it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from .._support.console import shown
from .._support.files import whole_files
from ..images.files import open_image
from .abilities import CutsPrompts
from .bulk import image_files, require_own_file
from .embedded import EMBEDDED
from .loading import Pair, load_pair, pair_nbytes
from .output import checked_captions, checked_images
from .prompts import words_of

_SOFTWARE = "clts check"  # what its pictures say that made them
_MOST = 8  # images that are shown, of those that are given
_SIDE = 256  # of each in the picture, in pixels
_LINE, _MARGIN = 14, 8
_FLAT = 2.0  # standard deviation of an image's values, of 255, below which nothing can be seen in it


@dataclass(frozen=True)
class Inspection:
    """What was found.

    **Arguments:**

    - captions: of the images, in order.
    - faults: what looks wrong, a line each.
    - seconds: that loading, captioning and generation took.
    - nbytes: of the weights, and the most memory of the process and of the device; None where it is not known.
    - picture: the file with the images side by side.
    """

    captions: list[str]
    faults: list[str]
    seconds: dict[str, float]
    nbytes: dict[str, int | None]
    picture: Path
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The account for a terminal."""
        seconds = ", ".join(f"{what} {spent:.1f}" for what, spent in self.seconds.items())
        memory = ", ".join(
            f"{what} {'unknown' if count is None else f'{count / 1e9:.2f} GB'}" for what, count in self.nbytes.items()
        )
        wrong = [f"wrong: {fault}" for fault in self.faults] or ["nothing looks wrong"]
        return [f"seconds: {seconds}", f"memory: {memory}", *self.notes, *wrong, f"picture: {self.picture}"]


def check(
    name: str,
    images: Sequence[Path] = (),
    out: Path = Path("check.png"),
    *,
    device: str = "cpu",
    captioner: Mapping[str, Any] | None = None,
    generator: Mapping[str, Any] | None = None,
    class_of: Mapping[Path, str] = MappingProxyType({}),
) -> Inspection:
    """Load a pair, caption a few images, generate images of the captions, and look at all of it.

    **Arguments:**

    - name: as `load_pair` takes it.
    - images: files, and folders of them; of those, eight are taken, far apart. Empty: images that come with the
        package and scikit-learn.
    - out: the picture: each image beside the one that was made of its caption, and the caption.
    - device, captioner, generator: as `load_pair` takes them.
    - class_of: the names of the classes of the images, by their files, of which others are left out. Empty: where they
        lie in several folders, a folder's name is taken for that of the class.

    Raises what `load_pair` raises, `FileNotFoundError` for images that are not there, and `ValueError` for files that
    are no images, or an `out` that is there and no picture of an earlier check.
    """
    require_own_file(out, images)
    if out.exists() and not _is_own(out):
        raise ValueError(f"out is {str(out)!r}, which holds something else than such a picture; give another file")
    if not (folder := next(place for place in out.absolute().parents if place.exists())).is_dir():
        raise ValueError(f"out is {str(out)!r}, in what is a file, {shown(folder)}; give another file")
    originals, classes = _given(images, out, class_of) if images else _samples(name)
    seconds, start = {}, time.perf_counter()
    pair = load_pair(name, device=device, captioner=captioner, generator=generator)
    warmed_up = checked_captions(pair.captioner, originals[:1], classes and classes[:1])
    checked_images(pair.generator, warmed_up, [0])
    seconds["loading"], start = time.perf_counter() - start, time.perf_counter()
    captions = checked_captions(pair.captioner, originals, classes)
    seconds["captions"], start = time.perf_counter() - start, time.perf_counter()
    made = checked_images(pair.generator, captions, list(range(len(captions))))
    seconds["images"] = time.perf_counter() - start
    out.parent.mkdir(parents=True, exist_ok=True)
    made_by = PngInfo()
    made_by.add_text("Software", _SOFTWARE)
    with whole_files([out]) as (partial,):
        _picture(originals, made, captions).save(partial, format="PNG", pnginfo=made_by)
    faults = [*_faults_of_captions(captions, classes, pair), *_faults_of_images(made)]
    return Inspection(captions, faults, seconds, _memory(pair, device), out, _notes(pair))


def _is_own(file: Path) -> bool:
    """Whether a file is a picture of an earlier check."""
    with suppress(Exception), Image.open(file) as picture:
        return picture.info.get("Software") == _SOFTWARE
    return False


def _given(
    paths: Sequence[Path], out: Path, class_of: Mapping[Path, str]
) -> tuple[list[Image.Image], list[str] | None]:
    files = [file for file in image_files(paths) if not (out.exists() and out.samefile(file))]  # of the last time
    known = [file for file in files if file in class_of]
    files, named = (known, class_of) if known else (files, _named_by_folder(files))
    chosen = [files[i] for i in _spread(len(files), _MOST)]
    return [open_image(file) for file in chosen], [named[file] for file in chosen] if named else None


def _named_by_folder(files: Sequence[Path]) -> dict[Path, str]:
    """The name of each one's folder, if there are several."""
    folders = list(dict.fromkeys(file.parent for file in files))
    if len(folders) < 2:
        return {}
    words = dict(zip(folders, words_of([folder.name for folder in folders]), strict=True))
    return {file: words[file.parent] for file in files}


def _spread(count: int, most: int) -> list[int]:
    """As many indices below `count`, far apart."""
    return list(dict.fromkeys(np.linspace(0, count - 1, most).round().astype(int).tolist()))


def _samples(name: str) -> tuple[list[Image.Image], list[str] | None]:
    """8x8 digits and shapes for the pair that knows those; for any other, photographs."""
    if name == "embedded":
        from ..streams.embedded_digits import stream_digits
        from ..streams.embedded_shapes import stream_shapes

        sets = [stream_digits()[1], stream_shapes()[1]]
        return [some.images[i] for some in sets for i in _spread(len(some.images), _MOST // 2)], None
    if name in EMBEDDED:
        raise ValueError(f"no images are given, and {name} comes with none; give some of {EMBEDDED[name].knows}")
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(photograph) for photograph in load_sample_images().images], None


def _faults_of_captions(captions: Sequence[str], classes: Sequence[str] | None, pair: Pair) -> list[str]:
    faults = []
    empty = [i for i, caption in enumerate(captions, 1) if not caption.strip()]
    if empty:
        faults.append(f"empty captions: {_numbers(empty)}")
    if classes is not None:
        unnamed = [
            i
            for i, (caption, of_class) in enumerate(zip(captions, classes, strict=True), 1)
            if caption.strip() and of_class.lower() not in caption.lower()
        ]
        if unnamed:
            faults.append(f"captions that do not name their class: {_numbers(unnamed)}; give a prefix with class_name")
    if len(captions) > 1 and len(set(captions)) == 1 and captions[0].strip():
        faults.append(f"the same caption of every image: {captions[0]!r}")
    if isinstance(pair.generator, CutsPrompts):
        cut = [i for i, caption in enumerate(captions, 1) if pair.generator.cut_prompts([caption])]
        if cut:
            faults.append(f"captions that are longer than the text encoder has room for: {_numbers(cut)}")
    return faults


def _faults_of_images(images: Sequence[Image.Image]) -> list[str]:
    black, flat = [], []
    for i, image in enumerate(images, 1):
        values = np.asarray(image.convert("RGB"), dtype=np.float32)
        if values.max() <= _FLAT:
            black.append(i)
        elif values.std(axis=(0, 1)).max() < _FLAT:
            flat.append(i)
    faults = [f"black images: {_numbers(black)}; a safety checker blacks out, and so does overflow"] if black else []
    return faults + ([f"images of one colour: {_numbers(flat)}"] if flat else [])


def _numbers(numbers: Sequence[int]) -> str:
    return f"number {', '.join(map(str, numbers))}"


def _notes(pair: Pair) -> list[str]:
    """What is to be known of the safety checker, if the pipeline is one that comes with it."""
    pipeline = getattr(pair.generator, "_pipeline", None)
    if getattr(pair.generator, "safety_checker", True) is False:
        return ["safety checker: not loaded; the licence of the weights binds as before"]
    if getattr(pipeline, "safety_checker", None) is None:
        return []
    around = getattr(pair.generator, "decoder", None) in ("linear", "auto")
    return [f"safety checker: on{', but what is decoded linearly goes around it' if around else ''}"]


def _memory(pair: Pair, device: str) -> dict[str, int | None]:
    import torch

    found: dict[str, int | None] = {"weights": pair_nbytes(pair)}
    if sys.platform != "win32":
        from resource import RUSAGE_SELF, getrusage

        found["process at most"] = getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if torch.device(device).type == "cuda":
        found["device at most"] = torch.cuda.max_memory_allocated(device)
    return found


def _picture(originals: Sequence[Image.Image], made: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """A row an image: the original, what was made of its caption, and the caption."""
    font = ImageFont.load_default()
    width, height = 2 * _SIDE + 3 * _MARGIN, _SIDE + 3 * _LINE + _MARGIN
    picture = Image.new("RGB", (width, height * len(originals) + _MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    for row, (original, image, caption) in enumerate(zip(originals, made, captions, strict=True)):
        top = row * height + _MARGIN
        for column, one in enumerate((original, image)):
            picture.paste(_fitted(one), (_MARGIN + column * (_SIDE + _MARGIN), top))
        lines = _wrapped(f"{row + 1}. {caption or '(empty)'}", draw, font, width - 2 * _MARGIN)
        for number, line in enumerate(lines[:3]):
            draw.text((_MARGIN, top + _SIDE + number * _LINE), line, fill="black", font=font)
    return picture


def _fitted(image: Image.Image) -> Image.Image:
    """In a square, the whole of it, pixels of small ones as they are."""
    scale = _SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return image.convert("RGB").resize(size, how)


def _wrapped(text: str, draw: ImageDraw.ImageDraw, font: Any, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
