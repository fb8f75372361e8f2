"""How images lie in a folder: which are to train on, which to test on, and of which class each is."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..images.folders import Folder, ImageFile, each_once, read_tree

Classes = dict[str, list[ImageFile]]  # by the label of the class, in increasing order

LAYOUT = "wanted is train/CLASS/ and test/CLASS/, train/CLASS/ alone, or CLASS/, with the images of each class in it"
_TRAIN = {"train", "training"}
_TEST = ({"test", "testing"}, {"val", "valid", "validation", "dev"})  # the first that is there is tested on
# What may be meant for one of these: test_images, train2017, ValSet.
_PERHAPS = re.compile(r"(train(ing)?|test(ing)?|val(id(ation)?)?|dev|eval(uation)?)(set|data|split|ima?ges?|images)?")


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
    split = {name: folder for name, folder in tree.folders.items() if _is_split(name)}
    if not split or _is_one_class(tree, split):
        _refuse_splits_by_other_names(tree)
        _refuse_domains(tree)
        return _layout(tree.path, class_folders(tree), None)
    train = _only(tree, [folder for name, folder in split.items() if name.lower() in _TRAIN])
    test = next(filter(None, (_only(tree, [f for n, f in split.items() if n.lower() in kind]) for kind in _TEST)), None)
    if train is None:
        raise ValueError(f"{root} holds {_listed(split)} but no train/; {LAYOUT}")
    if not any(folder.holds_images() for folder in train.folders.values()):
        raise FileNotFoundError(f"{train.path} must hold a subfolder for each class, with images in each; {LAYOUT}")
    _refuse_splits_by_other_names(tree)
    others = [name for name, f in tree.folders.items() if f not in (train, test) and f.holds_images()]
    if test is None:
        if others:
            raise ValueError(
                f"{root} holds {_listed(others)} beside {train.path.name}/, which may be the images to test on, or "
                f"classes; {LAYOUT}"
            )
        return _layout(tree.path, class_folders(train), None)
    if not any(folder.holds_images() for folder in test.folders.values()):
        raise FileNotFoundError(
            f"{test.path} must hold a subfolder for each class, with images in each, as {train.path} does; fill it, or "
            f"give {train.path} alone, which is then divided"
        )
    if others:
        warnings.warn(
            f"{root}: images of {_listed(others)} are left out; "
            f"{train.path.name}/ is trained and {test.path.name}/ tested on",
            stacklevel=3,
        )
    return _layout(tree.path, class_folders(train), class_folders(test))


def test_folder(root: Path) -> Path | None:
    """The subfolder of images to test on, of a folder that has one to train on as well."""
    names = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    if not _TRAIN & names.keys():
        return None
    return next((names[name] for kind in _TEST for name in sorted(kind & names.keys())), None)


def read_domains(root: str | os.PathLike[str], domains: Sequence[str] | str) -> dict[str, Layout]:
    """The layout of each domain's folder in `root`, by its name: all hold the same classes.

    **Arguments:**

    - domains: names of folders, in the order of experiences; "all": every folder, in the order of names.

    Raises `FileNotFoundError` or `ValueError`, saying what is wrong with the folder or the argument.
    """
    there = [name for name, folder in read_tree(root).folders.items() if folder.holds_images()]
    names = there if domains == "all" else list(domains)
    missing = [name for name in names if name not in there]
    if (isinstance(domains, str) and domains != "all") or missing or not names:
        raise ValueError(
            f"domains is {domains!r}, and {root} holds {_listed(there) or 'no folder with images'}; "
            "give names of folders in it, or 'all'"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"domains is {domains!r}; name each once")
    layouts = {name: read_layout(Path(root, name)) for name in names}
    first = layouts[names[0]]
    for layout in layouts.values():
        _require_same_classes(first.root, first.train, layout.root, layout.train)
    return layouts


def class_folders(tree: Folder) -> Classes:
    """The images of each class, of a folder with a subfolder for each.

    Raises `FileNotFoundError` if there are none, or none in one of the subfolders.
    """
    classes = {_label(name): folder.below() for name, folder in sorted(tree.folders.items())}
    empty = [f"{name}/" for name, images in classes.items() if not images]
    if not classes or len(empty) == len(tree.folders):
        raise FileNotFoundError(f"{tree.path} must hold a subfolder for each class, with images in each; {LAYOUT}")
    if empty:
        raise FileNotFoundError(
            f"{tree.path} holds no images in {_listed(empty)} (links to what is read elsewhere are not followed); "
            "remove what is no class, and put images in what is one"
        )
    if len(classes) < len(tree.folders):
        raise ValueError(f"{tree.path} has folders whose names differ in nothing that can be seen; rename one of them")
    if tree.images:
        warnings.warn(
            f"{tree.path} holds {len(tree.images)} images that are in no class's folder, such as "
            f"{Path(tree.images[0].path).name}; they are left out",
            stacklevel=4,
        )
    return classes


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
                        f"{image.path} is the same file as {path}, by a link; an image is of one class, and either "
                        "trained or tested on: remove one of them"
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
            f"{one} and {other} hold different classes: {', '.join(differing[:5])}"
            f"{', ...' if len(differing) > 5 else ''}; each must hold images of all"
        )


def _is_split(name: str) -> bool:
    return any(name.lower() in kind for kind in (_TRAIN, *_TEST))


def _is_one_class(tree: Folder, split: Mapping[str, Folder]) -> bool:
    """Whether the one folder named like a split is a class among others: a train beside buses."""
    (folder, *more) = split.values()
    others = any(f.holds_images() for name, f in tree.folders.items() if name not in split)
    return not more and others and bool(folder.images)


def _only(tree: Folder, folders: list[Folder]) -> Folder | None:
    if len(folders) > 1:
        raise ValueError(
            f"{tree.path} holds {_listed(folder.path.name for folder in folders)}, which mean the same; leave one"
        )
    return folders[0] if folders else None


def _refuse_splits_by_other_names(tree: Folder) -> None:
    for name, folder in tree.folders.items():
        meant = any(_PERHAPS.fullmatch(word) for word in re.findall("[a-z]+", name.lower()))
        if meant and not _is_split(name) and not folder.images and folder.holds_images():
            raise ValueError(f"{folder.path} looks like one of train and test, by another name; {LAYOUT}")


def _refuse_domains(tree: Folder) -> None:
    """Raise `ValueError` where what stands in the place of classes seems to be domains, or a folder around it all."""
    below = {name: set(folder.folders) for name, folder in tree.folders.items() if not folder.images}
    for name, names in below.items():
        if any(map(_is_split, names)):
            one = (
                f"give {tree.path / name}" if len(tree.folders) == 1 else "for domains, give domains=all or their names"
            )
            raise ValueError(
                f"{tree.path / name} holds {_listed(sorted(names))} in the place of images of a class; {one}; "
                f"else {LAYOUT}"
            )
    if len(below) == len(tree.folders) and below:
        shared = set.intersection(*below.values())
        if len(shared) > 1 and all(names == shared for names in below.values()):
            one = f"give {tree.path / next(iter(below))}" if len(below) == 1 else "give domains=all"
            raise ValueError(
                f"{tree.path} holds the same folders, {_listed(sorted(shared))}, in each of its folders; if these are "
                f"the classes, {one}; else put the images of each class into its folder directly"
            )


def _label(folder_name: str) -> str:
    """A folder's name as text: names of old systems are Latin-1, and accents are written in two ways."""
    try:
        name = os.fsencode(folder_name).decode()
    except UnicodeDecodeError:
        name = os.fsencode(folder_name).decode("latin-1")
    return unicodedata.normalize("NFC", name)


def _listed(names: Iterable[str]) -> str:
    names = [f"{name.rstrip('/')}/" for name in names]
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
