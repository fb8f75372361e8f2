"""The images behind an Avalanche dataset: as they were before the stream's transforms, and back through them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, TransformGroups
from PIL import Image, UnidentifiedImageError
from torch import Tensor

_REMEDY = (
    "build the benchmark from PIL images, uint8 tensors or tensors with values in [0, 1], "
    "and give normalisation and augmentation as its train_transform and eval_transform"
)


class LabelledImages(NamedTuple):
    """Images with their classes: `images[i]` shows class `targets[i]`."""

    images: list[Image.Image]
    targets: list[int]


@dataclass(frozen=True)
class ImageFormat:
    """How a stream hands out its images before its transforms.

    **Arguments:**

    - kind: "pil"; "uint8", tensors with values 0 to 255; "float", tensors with values in [0, 1].
    - size: `(width, height)` in pixels.
    - mode: "L" (grey) or "RGB".
    """

    kind: Literal["pil", "uint8", "float"]
    size: tuple[int, int]
    mode: str

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return len(Image.new(self.mode, (1, 1)).getbands())

    @property
    def nbytes(self) -> int:
        """Bytes of one image as raw uint8: height x width x channels."""
        return self.size[0] * self.size[1] * self.channels

    def restore(self, image: Image.Image) -> Any:
        """A generated image as the stream would have handed it out: native size, mode and kind."""
        native = image.convert(self.mode).resize(self.size, Image.Resampling.LANCZOS)
        if self.kind == "pil":
            return native
        pixels = torch.from_numpy(np.array(native))
        channels_first = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
        return channels_first if self.kind == "uint8" else channels_first.float() / 255


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The image in a file; 16 bits of grey become 8, where Pillow would cut them off.

    Raises `ValueError` if Pillow cannot read it, or its pixels are floating-point numbers, of no known range.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):
                return Image.fromarray((np.asarray(image).clip(0, 2**16 - 1) >> 8).astype(np.uint8))
            if image.mode == "F":
                raise OSError("its pixels are floating-point numbers")
            return image.convert() if image.mode == "P" else image.copy()
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is not an image that Pillow can read ({error}); remove or replace it") from None


def is_grey(path: str | os.PathLike[str]) -> bool:
    """Whether `open_image` gives an image without colour, by the file's header alone.

    True of a file that is no image: opening it is what says so.
    """
    try:
        with Image.open(path) as image:
            return image.mode in ("1", "L") or image.mode.startswith("I")
    except (UnidentifiedImageError, OSError):
        return True


def image_format(dataset: AvalancheDataset) -> ImageFormat:
    """The format of a dataset's images, read off its first sample.

    Raises `TypeError` if the samples are not images, `ValueError` if they are tensors out of range.
    """
    sample = _untransformed(dataset)[0][0]
    image = to_pil(sample)
    if isinstance(sample, Image.Image):
        kind: Literal["pil", "uint8", "float"] = "pil"
    else:
        kind = "uint8" if sample.dtype == torch.uint8 else "float"
    return ImageFormat(kind, image.size, "L" if image.mode in ("1", "L", "I", "F") else "RGB")


def raw_images(dataset: AvalancheDataset, indices: Sequence[int]) -> list[Image.Image]:
    """The images at `indices` as they were before the stream's transforms."""
    untransformed = _untransformed(dataset)
    return [to_pil(untransformed[int(i)][0]) for i in indices]


def to_pil(sample: Any) -> Image.Image:
    """A PIL image of a sample: itself a PIL image, or a tensor of shape `(1 or 3, h, w)`.

    Raises `TypeError` for anything else, and `ValueError` for floats outside [0, 1]: those were normalised, and what
    they looked like before is not known.
    """
    if isinstance(sample, Image.Image):
        return sample
    if not isinstance(sample, Tensor) or sample.ndim != 3 or len(sample) not in (1, 3):
        shape = f" of shape {tuple(sample.shape)}" if isinstance(sample, Tensor) else ""
        raise TypeError(f"the samples of this stream are not images but {type(sample).__name__}{shape}; {_REMEDY}")
    if sample.dtype != torch.uint8:
        low, high = float(sample.min()), float(sample.max())
        if not (sample.is_floating_point() and low >= 0 and high <= 1):
            raise ValueError(
                f"the samples of this stream are tensors of {sample.dtype} with values from {low:.3g} to {high:.3g}, "
                f"and no untransformed image stands behind them; {_REMEDY}"
            )
        sample = (sample * 255).round().to(torch.uint8)
    pixels = sample.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def class_names(dataset: AvalancheDataset) -> list[str] | None:
    """The class names that the data set underneath knows (torchvision's `classes`), or None.

    None also where the stream has renumbered the classes (`class_ids_from_zero_...`): the names would be others'.
    """
    first_of_class = {int(target): indices[0] for target, indices in dataset.targets.val_to_idx.items()}
    names: list[str] | None = None
    for target, index in first_of_class.items():
        leaf, leaf_index = _leaf(dataset._flat_data, int(index))
        if int(leaf[leaf_index][1]) != target:
            return None
        # Subset and the like keep what they wrap in `dataset`.
        while not hasattr(leaf, "classes") and hasattr(leaf, "dataset"):
            leaf = leaf.dataset
        known = getattr(leaf, "classes", None)
        if not isinstance(known, Sequence) or not all(isinstance(name, str) for name in known):
            return None
        names = list(known)
    return names


def as_stream_dataset(
    images: Sequence[Image.Image],
    targets: Sequence[int],
    task_labels: Sequence[int],
    *,
    format: ImageFormat,
    transforms: TransformGroups,
    yields_task_labels: bool = True,
) -> AvalancheDataset:
    """A dataset of generated `images` that yields what the stream does: native format, then the stream's transforms.

    **Arguments:**

    - yields_task_labels: whether samples are `(x, y, task_label)` or `(x, y)`.
    """
    restored = [(format.restore(image), target) for image, target in zip(images, targets, strict=True)]
    return AvalancheDataset(
        [restored],
        data_attributes=[
            DataAttribute(list(targets), "targets"),
            DataAttribute(list(task_labels), "targets_task_labels", use_in_getitem=yields_task_labels),
        ],
        transform_groups=transforms,
    )


def stream_transforms(dataset: AvalancheDataset) -> TransformGroups:
    """The transforms between a dataset's untransformed images and what it yields, train and eval.

    Frozen transforms are not among them: they belong to the image (the permutation of Permuted MNIST is its domain),
    so the captioner has seen their result.
    """
    chain = list(_transform_chain(dataset._flat_data))
    return TransformGroups({group: _Chain(chain, group) for group in ("train", "eval")})


class _Chain:
    """The transform groups of nested datasets, innermost first, as one transform of x."""

    def __init__(self, groups: Sequence[TransformGroups], name: str) -> None:
        self.groups = groups
        self.name = name

    def __call__(self, x: Any) -> Any:
        for group in self.groups:
            x = group([x], group_name=self.name)[0]
        return x


# Avalanche has no public way to read a dataset's transforms, so the three functions below read its flat data: a tree
# whose nodes carry transform groups and whose leaves are the data sets themselves.


def _transform_chain(node: Any) -> Iterator[TransformGroups]:
    children = getattr(node, "_datasets", None)
    if children is None:
        return
    if children:
        yield from _transform_chain(children[0])
    yield node._transform_groups


def _leaf(node: Any, index: int) -> tuple[Any, int]:
    """The data set that sample `index` comes from, and its index there."""
    while hasattr(node, "_datasets"):
        child, index = node._get_idx(index)
        node = node._datasets[child]
    return node, index


def _untransformed(dataset: AvalancheDataset) -> AvalancheDataset:
    remove: Callable[[], AvalancheDataset] = dataset.remove_current_transform_group
    return remove()
