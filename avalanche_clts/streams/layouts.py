"""How images lie in a folder: which are to train on, which to test on, and of which class each is."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .._support.console import shown
from ..images.folders import Folder, ImageFile, each_once, read_tree
from .lookalikes import (
    LAYOUT,
    TEST,
    TRAIN,
    is_class_train,
    is_split,
    listed,
    refuse_nested,
    refuse_splits_by_other_names,
)

Classes = dict[str, list[ImageFile]]  # by the label of the class, in increasing order


@dataclass(frozen=True)
class Layout:
    """The files of a folder by what they are for.

    **Arguments:**

    - root: the folder.
    - train: the images to train on; or all, where `test` is None and they are still to be divided.
    - test: the images to test on, of the same classes.
    - words: the folder that a list of words for WordNet's ids lies in, beside or above the class folders; that of the
        class folders where there is none.
    """

    root: Path
    train: Classes
    test: Classes | None
    words: Path


def read_layout(root: str | os.PathLike[str]) -> Layout:
    """What is in a folder that holds `train/CLASS` and `test/CLASS`, `train/CLASS` alone, or `CLASS`.

    Splits may be spelt in any case: train or training; test, testing, or else val, valid, validation or dev.

    Raises `FileNotFoundError` or `ValueError`, with the layout that is wanted, for a folder that cannot be read so.
    """
    tree = read_tree(root)
    split = {name: folder for name, folder in tree.folders.items() if is_split(name)}
    if not split or is_class_train(tree, split):
        refuse_splits_by_other_names(tree)
        return _layout(tree.path, class_folders(tree), None)
    train = _only(tree, [folder for name, folder in split.items() if name.lower() in TRAIN])
    test = next(filter(None, (_only(tree, [f for n, f in split.items() if n.lower() in kind]) for kind in TEST)), None)
    if train is None:
        raise ValueError(f"{shown(root)} holds {listed(split)} but no train/; {LAYOUT}")
    if not any(folder.holds_images() for folder in train.folders.values()):
        raise FileNotFoundError(
            f"{shown(train.path)} must hold a subfolder for each class, with images in each; {LAYOUT}"
        )
    refuse_splits_by_other_names(tree)
    others = [name for name, f in tree.folders.items() if f not in (train, test) and f.holds_images()]
    if test is None:
        if others:
            raise ValueError(
                f"{shown(root)} holds {listed(others)} beside {shown(train.path.name)}/, which may be the images to "
                f"test on, or classes; {LAYOUT}"
            )
        return _layout(tree.path, class_folders(train, of_split=True), None)
    if not any(folder.holds_images() for folder in test.folders.values()):
        raise FileNotFoundError(
            f"{shown(test.path)} must hold a subfolder for each class, with images in each, as {shown(train.path)} "
            f"does; fill it, or give {shown(train.path)} alone, which is then divided"
        )
    if others:
        warnings.warn(
            f"{shown(root)}: images of {listed(others)} are left out; "
            f"{shown(train.path.name)}/ is trained and {shown(test.path.name)}/ tested on",
            stacklevel=3,
        )
    return _layout(tree.path, class_folders(train, of_split=True), class_folders(test, of_split=True))


def require_no_class(name: str, folder: Path, root: Path) -> None:
    """Raise `ValueError` if a folder that is to be written lies among the class folders in `root`, or is `root`.

    **Arguments:**

    - name: of the argument that says where it is written.
    """
    splits = [path for path in root.iterdir() if path.is_dir() and is_split(path.name)]
    inside = folder.resolve()
    for place in splits if any(path.name.lower() in TRAIN for path in splits) else [root]:
        around = place.resolve()
        below = inside.relative_to(around).parts if inside.is_relative_to(around) else (".",)
        if not any(part.startswith(".") for part in below):  # what is hidden is not read
            raise ValueError(
                f"{name} is {str(folder)!r}, inside the folder of images {shown(place)}, where it would be taken for a "
                "class; choose another folder"
            )


def test_folder(root: Path) -> Path | None:
    """The subfolder of images to test on, of a folder that has one to train on as well."""
    names = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    if not TRAIN & names.keys():
        return None
    return next((names[name] for kind in TEST for name in sorted(kind & names.keys())), None)


def read_domains(root: str | os.PathLike[str], domains: Sequence[str] | str) -> dict[str, Layout]:
    """The layout of each domain's folder in `root`, by its name: all hold the same classes.

    **Arguments:**

    - domains: names of folders, in the order of experiences; "all": every folder, in the order of names.

    Raises `FileNotFoundError` or `ValueError`, saying what is wrong with the folder or the argument.
    """
    there = [name for name, folder in read_tree(root).folders.items() if folder.holds_images()]
    if not isinstance(domains, (str, Sequence)) or not all(isinstance(name, str) for name in domains):
        raise TypeError(f"domains is {domains!r}; it must be names of folders, such as ['photo', 'sketch'], or 'all'")
    names = there if domains == "all" else list(domains)
    missing = [name for name in names if name not in there]
    if (isinstance(domains, str) and domains != "all") or missing or not names:
        raise ValueError(
            f"domains is {domains!r}, and {shown(root)} holds {listed(there) or 'no folder with images'}; "
            "give names of folders in it, or 'all'"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"domains is {domains!r}; name each once")
    layouts = {name: read_layout(Path(root, name)) for name in names}
    first = layouts[names[0]]
    for layout in layouts.values():
        _require_same_classes(first.root, first.train, layout.root, layout.train)
    return layouts


def class_folders(tree: Folder, *, of_split: bool = False) -> Classes:
    """The images of each class, of a folder with a subfolder for each.

    **Arguments:**

    - of_split: whether these are the images to train on or to test on alone.

    Raises `FileNotFoundError` if there are none, or none in one of the subfolders, and `ValueError` for subfolders that
    seem to be no classes.
    """
    refuse_nested(tree, of_split=of_split)
    # In the order of what they are called, however that is spelt: the same for every split and domain.
    named = sorted(((_label(name), folder) for name, folder in tree.folders.items()), key=lambda item: item[0])
    classes = {label: folder.below() for label, folder in named}
    empty = [f"{name}/" for name, images in classes.items() if not images]
    if not classes or len(empty) == len(tree.folders):
        raise FileNotFoundError(
            f"{shown(tree.path)} must hold a subfolder for each class, with images in each; {LAYOUT}"
        )
    if empty:
        raise FileNotFoundError(
            f"{shown(tree.path)} holds no images in {listed(empty)} (links to what is read elsewhere are not followed)"
            "; remove what is no class, and put images in what is one"
        )
    _require_different(tree)
    if tree.images:
        warnings.warn(
            f"{shown(tree.path)} holds {len(tree.images)} images that are in no class's folder, such as "
            f"{shown(Path(tree.images[0].path).name)}; they are left out",
            stacklevel=4,
        )
    return classes


def _require_different(tree: Folder) -> None:
    """Raise `ValueError` for folders whose names are one name in a prompt."""
    first: dict[str, str] = {}
    for name in sorted(tree.folders):
        other = first.setdefault(" ".join(_label(name).replace("_", " ").split()), name)
        if other != name:
            raise ValueError(
                f"{shown(tree.path)} has folders {other!r} and {name!r}, whose names differ in nothing that is said; "
                "rename one of them"
            )


def without_copies(layouts: Iterable[Layout]) -> list[Layout]:
    """The layouts with every file once, that links give several names within a class.

    Raises `ValueError` for a file in several classes, or both to train and to test on.
    """
    owners: dict[object, tuple[object, str]] = {}

    def once(layout: Layout, side: str, classes: Classes) -> Classes:
        kept = {label: each_once(images) for label, images in classes.items()}
        for label, images in kept.items():
            owner = (layout.root, side, label)
            for image in images:
                first, path = owners.setdefault(image.identity, (owner, image.path))
                if first != owner:
                    raise ValueError(
                        f"{shown(image.path)} is the same file as {shown(path)}, by a link; an image is of one class, "
                        "and either trained or tested on: remove one of them"
                    )
        return kept

    return [
        replace(
            layout,
            train=once(layout, "train", layout.train),
            test=None if layout.test is None else once(layout, "test", layout.test),
        )
        for layout in layouts
    ]


def _layout(root: Path, train: Classes, test: Classes | None) -> Layout:
    if test is not None:
        _require_same_classes(root / "train", train, root / "test", test)
    below = Path(os.path.commonpath([Path(images[0].path).parent for images in train.values()]))
    with_words = (folder for folder in (below, *below.parents[:3]) if (folder / "words.txt").is_file())
    return Layout(root, train, test, next(with_words, below))


def _require_same_classes(one: Path, classes: Classes, other: Path, others: Classes) -> None:
    differing = sorted(set(classes) ^ set(others))
    if differing:
        raise ValueError(
            f"{shown(one)} and {shown(other)} hold different classes: {', '.join(map(shown, differing[:5]))}"
            f"{', ...' if len(differing) > 5 else ''}; each must hold images of all"
        )


def _only(tree: Folder, folders: list[Folder]) -> Folder | None:
    if len(folders) > 1:
        raise ValueError(
            f"{shown(tree.path)} holds {listed(folder.path.name for folder in folders)}, which mean the same; leave one"
        )
    return folders[0] if folders else None


def _label(folder_name: str) -> str:
    """A folder's name as text: names of old systems are Latin-1, and accents are written in two ways."""
    try:
        name = os.fsencode(folder_name).decode()
    except UnicodeDecodeError:
        name = os.fsencode(folder_name).decode("latin-1")
    return unicodedata.normalize("NFC", name)
