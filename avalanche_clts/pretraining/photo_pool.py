"""Any folder of images for a pair to learn from, with given captions, or captions of class and measured colours."""

from __future__ import annotations

import json
import os
import warnings
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch.utils.data import Subset

from .._support.console import shown
from ..images.formats import ImageFormat, LabelledImages
from ..pair.prompts import fill, words_of
from ..streams.folders import FolderDataset, FolderImages, ImageSubset, open_folder, parts_of, require_folder_arguments
from ..streams.layouts import test_folder
from ..streams.lookalikes import listed
from .pool import Domain, Pool

PREFIX = "a photo of a {class_name}"  # the captioner is told the class where it is known, as BLIP can be
_HELD_OUT = 10  # of the parts that images are divided into, the last is held out; of given captions, every tenth
# sRGB. Berlin and Kay's basic colour terms.
_COLOURS = {
    "black": (20, 20, 20),
    "gray": (128, 128, 128),
    "white": (240, 240, 240),
    "red": (190, 45, 40),
    "orange": (230, 135, 50),
    "yellow": (230, 210, 80),
    "brown": (120, 85, 55),
    "green": (70, 120, 60),
    "blue": (75, 120, 185),
    "purple": (115, 75, 140),
    "pink": (225, 160, 170),
}


def photos_domain(
    root: str | os.PathLike[str],
    *,
    size: int | None = None,
    part: tuple[int, int] = (1, 1),
    mirror: bool = True,
    skip_damaged: bool = False,
) -> Domain:
    """The domain of a folder.

    With a `metadata.jsonl` (a line an image: `file_name` and `text`), the captions are its texts, as in the imagefolder
    convention of Hugging Face's datasets, and every tenth image is held out. Otherwise the folder holds class
    subfolders, as `split_folder` takes them, and a caption says class, brightness and colours ("a photo of a frog brown
    on green in the dark").

    **Arguments:**

    - size: side that images are brought to. None: as they are, all of one size.
    - part: `(k, n)`: learn from the k-th of n equal parts of each class's images to train on, and be measured on the
        others; with `(1, 1)`, on a tenth that is held out. The images to test on are never learnt from: those in
        the subfolder test (or val) of a folder that has train as well.
    - skip_damaged: whether to go on without files that cannot be opened, with a warning that counts them.
    - mirror: whether images in class subfolders are learnt from mirrored as well: not where left and right matter.

    Raises `FileNotFoundError` or `ValueError`, saying what is wrong with the folder.
    """
    require_folder_arguments(size, 0.5, part, skip_damaged)
    root = Path(root)
    if (root / "metadata.jsonl").exists():
        if part != (1, 1):
            raise ValueError(
                f"part is {part}, but {shown(root)} holds a metadata.jsonl, whose lines say what is learnt from; "
                "divide these, and leave part out"
            )
        return _captioned_domain(root, size, skip_damaged)
    learnt, others, test = _parts(root, size, part, skip_damaged)
    dataset: FolderDataset = learnt.dataset  # type: ignore[assignment]
    names = words_of(dataset.classes, Path(dataset.root))
    return Domain(
        name=root.name,
        class_names=names,
        pool=partial(_photo_pool, learnt, names, mirror),
        held_out=cache(lambda: (_labelled(others), _labelled(test))),
        format=ImageFormat("pil", dataset.size, dataset.mode),
        num_generated=3000,
        prefix=PREFIX,
    )


def describe_photo(image: Image.Image, class_name: str) -> str:
    """A caption of an image: its class, the colour of its middle and that of its border, its brightness."""
    pixels = np.asarray(image.convert("RGB"), dtype=float)
    height, width, _ = pixels.shape
    middle = pixels[height // 4 : height - height // 4, width // 4 : width - width // 4].reshape(-1, 3)
    edge_y, edge_x = max(1, height // 8), max(1, width // 8)
    inner = np.zeros((height, width), bool)
    inner[edge_y:-edge_y, edge_x:-edge_x] = True
    brightness = pixels.mean()
    light = " in the dark" if brightness < 90 else " in bright light" if brightness > 150 else ""
    return f"{fill(PREFIX, class_name)} {_colour(middle)} on {_colour(pixels[~inner])}{light}"


def _colour(pixels: NDArray[np.float64]) -> str:
    """The basic colour term that names most of the pixels."""
    names, anchors = list(_COLOURS), np.array(list(_COLOURS.values()), dtype=float)
    nearest = np.square(pixels[:, None, :] - anchors[None]).sum(2).argmin(1)
    return names[int(np.bincount(nearest, minlength=len(names)).argmax())]


def _parts(
    root: Path, size: int | None, part: tuple[int, int], skip_damaged: bool
) -> tuple[ImageSubset, ImageSubset, ImageSubset]:
    """What is learnt from, and what classifiers are trained and tested on."""
    everything, test = open_folder(root, size=size, skip_damaged=skip_damaged)
    which, parts = part
    if parts == 1:
        others = parts_of(everything, _HELD_OUT)[-1]
        held = set(others.indices)
        few = _without_images(others)
        if not held:
            raise ValueError(
                f"{shown(root)} has fewer than {_HELD_OUT} images to train on in every class; give more, or a "
                "part such as 1/2"
            )
        if few:
            warnings.warn(
                f"{shown(root)} has fewer than {_HELD_OUT} images to train on of {listed(few)}: none is held out, and "
                "the measured quality says nothing of them",
                stacklevel=2,
            )
        return Subset(everything.dataset, [i for i in everything.indices if i not in held]), others, test
    divided = parts_of(everything, parts)
    learnt = divided.pop(which - 1)
    few = _without_images(learnt)
    if few:
        raise ValueError(
            f"part is {which}/{parts}, and {shown(root)} has too few images of {listed(few)} to train on for this part "
            "to have one; give fewer parts"
        )
    return learnt, Subset(learnt.dataset, [i for other in divided for i in other.indices]), test


def _without_images(subset: ImageSubset) -> list[str]:
    """The classes of its data set of which a subset has none."""
    dataset: FolderDataset = subset.dataset  # type: ignore[assignment]
    present = {dataset.targets[i] for i in subset.indices}
    return [shown(label) for target, label in enumerate(dataset.classes) if target not in present]


def _labelled(images: ImageSubset) -> LabelledImages:
    pairs = [images[i] for i in range(len(images))]
    return LabelledImages([image for image, _ in pairs], [target for _, target in pairs])


def _photo_pool(learnt: ImageSubset, names: list[str], mirror: bool) -> Pool:
    images, targets = _labelled(learnt)
    captions = [describe_photo(image, names[t]) for image, t in zip(images, targets, strict=True)]
    if not mirror:
        return Pool(images, captions, targets)
    # Another image, of which the same caption is true.
    return Pool([*images, *map(ImageOps.mirror, images)], 2 * captions, 2 * targets)


def _is_below(file: Path, folder: Path) -> bool:
    """Whether a file is in a folder, as it is written or by a link."""
    return folder.absolute() in file.absolute().parents or (folder.resolve() in file.resolve().parents)


def _captioned_domain(root: Path, size: int | None, skip_damaged: bool) -> Domain:
    files: list[str] = []
    captions: list[str] = []
    tested = test_folder(root)
    metadata = root / "metadata.jsonl"
    try:
        lines = metadata.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{metadata} is not UTF-8 ({error}); save it as such") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            name, text = record["file_name"], record["text"]
        except (ValueError, KeyError, TypeError):
            name = text = None
        if not isinstance(name, str):
            raise ValueError(f"{metadata}, line {number}: must be an object with file_name and text")
        if not (root / name).is_file():
            raise FileNotFoundError(f"{metadata}, line {number}: there is no {shown(root / name)}")
        if tested is not None and _is_below(root / name, tested):
            continue  # never learnt from
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{metadata}, line {number}: text is {text!r}; caption the image, or leave the line out")
        files.append(str(root / name))
        captions.append(text)
    if len(files) < 2:
        raise ValueError(f"{metadata} names {len(files)} images; at least 2 are needed")
    both = None if size is None else (size, size)
    opened = FolderImages(list(dict.fromkeys(files)), size=both, skip_damaged=skip_damaged)
    readable = [i for i, file in enumerate(files) if file not in opened.damaged]
    first_of = {files[i]: i for i in reversed(readable)}  # a file may have several captions
    once = sorted(first_of.values())
    held = once[_HELD_OUT - 1 :: _HELD_OUT] or once[-1:]
    seen_at_test = {files[i] for i in held}
    learnt = [i for i in readable if files[i] not in seen_at_test]
    if not learnt:
        raise ValueError(f"{metadata} names a single image that can be opened; at least 2 are needed")

    def images(indices: list[int]) -> list[Image.Image]:
        return [opened[files[i]].convert("RGB") for i in indices]

    return Domain(
        name=root.name,
        class_names=[],
        pool=lambda: Pool(images(learnt), [captions[i] for i in learnt], [0] * len(learnt)),
        held_out=lambda: (LabelledImages([], []), LabelledImages(images(held), [0] * len(held))),
        format=ImageFormat("pil", opened.size, "RGB"),
    )
