"""Blood cells of the package `medmnist` in experiences of different cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .kinds import Options, StreamKind, count, one_side_of

if TYPE_CHECKING:
    from .relabelled import RelabelledImages

# As medmnist numbers them. Its own name of the fourth is a sentence.
CLASS_NAMES = [
    "basophil",
    "eosinophil",
    "erythroblast",
    "immature granulocyte",
    "lymphocyte",
    "monocyte",
    "neutrophil",
    "platelet",
]


def split_bloodmnist(n_experiences: int, *, size: int, seed: int, root: Path | None) -> Any:
    """Split BloodMNIST: 8 kinds of blood cells, RGB, in experiences of different kinds.

    Trained and tested on as the package divides them, 11,959 and 3,421 images; its 1,712 for validation are not used.

    **Arguments:**

    - n_experiences: 1, 2, 4 or 8.
    - size: side of the images in pixels: 28, 64, 128 or 224.
    - seed: of the order of classes.
    - root: folder that holds, or is to hold, the package's files. None: `~/.medmnist`.

    Raises `ImportError` without the extra `medmnist`, `RuntimeError` if the images are not there and cannot be
    downloaded, and `ValueError` if the classes cannot be divided into `n_experiences`.
    """
    try:
        import medmnist
    except ImportError:
        raise ImportError(
            'split-bloodmnist needs medmnist, which is not installed; run: pip install "avalanche-clts[medmnist]"'
        ) from None
    from .benchmarks import split_classes
    from .relabelled import RelabelledImages

    folder = Path(medmnist.info.DEFAULT_ROOT or "~/.medmnist").expanduser() if root is None else root
    folder.mkdir(parents=True, exist_ok=True)  # medmnist takes none that is not there

    def part(split: str) -> RelabelledImages:
        try:
            images = medmnist.BloodMNIST(split, size=size, root=folder)
        except RuntimeError:  # not there
            images = medmnist.BloodMNIST(split, size=size, root=folder, download=True)
        return RelabelledImages(images, images.labels.ravel(), CLASS_NAMES)

    return split_classes(part("train"), part("test"), len(CLASS_NAMES), n_experiences, seed=seed)


def _bloodmnist(seed: int, options: Options, data_root: Path | None) -> Any:
    return split_bloodmnist(options.get("experiences", 4), size=options.get("size", 28), seed=seed, root=data_root)


MEDICAL: dict[str, StreamKind] = {
    "split-bloodmnist": StreamKind(
        "Split BloodMNIST: 8 kinds of blood cells, RGB, 4 experiences, size=28 (or 64, 128, 224)",
        _bloodmnist,
        {"experiences": count, "size": one_side_of(28, 64, 128, 224)},
        pair="embedded-mnist-blood",
    ),
}
