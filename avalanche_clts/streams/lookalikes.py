"""Folders that look like classes, and are splits, domains, or what lies around classes: told by names and nesting."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from .._support.console import shown
from ..images.folders import Folder

LAYOUT = "wanted is train/CLASS/ and test/CLASS/, train/CLASS/ alone, or CLASS/, with the images of each class in it"
TRAIN = {"train", "training"}
TEST = ({"test", "testing"}, {"val", "valid", "validation", "dev"})  # the first that is there is tested on

_CONTAINER = r"(?:data)?set|data|split|images?|imgs?|photos?|pictures?|files"
# A word that may be meant for one of these (test_images, train2017, ValSet), and words that say nothing beside it.
_PERHAPS = re.compile(
    rf"[xy]?(train(?:ing|val)?|test(?:ing)?|val(?:id(?:ation)?)?|dev|eval(?:uation)?)((?:{_CONTAINER})?)"
)
_SAYS_NOTHING = re.compile(rf"\d+|[a-z]|{_CONTAINER}|all|full|new|old|final|my|the")
# Sessions rather than classes: dates; and, where not all folders have them, a word with a number, but WordNet's ids.
_DATE = re.compile(r"(19|20)\d\d[\d\W_]*")
_NUMBERED = re.compile(r"(?!n\d{8}$)[^\W\d_]*[\W_]*\d[\d\W_]*")


def is_split(name: str) -> bool:
    """Whether a folder's name is that of images to train or to test on."""
    return any(name.lower() in kind for kind in (TRAIN, *TEST))


def listed(names: Iterable[str]) -> str:
    """The first of some folders' names, for a message."""
    names = [f"{shown(name.rstrip('/'))}/" for name in names]
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def is_class_train(tree: Folder, split: Mapping[str, Folder]) -> bool:
    """Whether the only folder named like a split is a class among others, a train beside buses, which is told.

    Images that lie in it directly, beside folders that are no splits, are of a class if it is called as a thing is and
    spelt as the others are. Nothing to be photographed is called "test", "val" or "training", and "Train" beside "bus"
    was named by somebody else than the classes were.

    Raises `ValueError` for images in one that is no class.
    """
    (name, folder), *more = split.items()
    others = [other for other, f in tree.folders.items() if other not in split and f.holds_images()]
    if more or not others or not folder.images:
        return False
    if name.lower() != "train" or _spelling(name) not in map(_spelling, others):
        raise ValueError(
            f"{shown(folder.path)} holds images directly, beside {listed(others)}; {LAYOUT}; if it is a class, "
            "rename it"
        )
    warnings.warn(
        f"{shown(folder.path)} is taken for a class, of trains, beside {listed(others)}; if its images are to train "
        f"on, {LAYOUT}",
        stacklevel=4,
    )
    return True


def refuse_splits_by_other_names(tree: Folder) -> None:
    """Raise `ValueError` for a folder that seems to be meant for training or testing, but is called otherwise.

    A class may have such a word in its name ("test tube", "bullet train"). It is a split if the rest of the name says
    nothing (`test_images`), if another folder has the same rest (`cifar_train`, `cifar_test`), or if it holds folders
    as a split does.
    """
    meant = {
        name: found
        for name, folder in tree.folders.items()
        if not is_split(name) and folder.holds_images() and (found := _split_in(name)) is not None
    }
    for name, found in meant.items():
        twin = any(other.word != found.word and other.rest == found.rest for other in meant.values())
        if twin or found.is_all or _is_around(_innermost(tree.folders[name])):
            raise ValueError(
                f"{shown(tree.folders[name].path)} looks like one of train and test, by another name; {LAYOUT}; if it "
                "is a class, rename it"
            )


def refuse_nested(tree: Folder, *, of_split: bool) -> None:
    """Raise `ValueError` where splits, domains or a folder around it all stand in the place of classes.

    A class may keep its images in folders of its own, of sessions say. Not its own are splits, and two sibling folders
    or more that another class has as well: these are rather the classes.

    **Arguments:**

    - of_split: whether `tree` is that of the images to train on or to test on alone.
    """
    held = _held(tree)
    for folder in (below for top in held.values() for below in _walk(top)):
        names = sorted(_held(folder)) if _is_around(folder) else []
        # A train may stand beside buses here, too.
        if any(is_split(name) and (name != "train" or all(map(is_split, names))) for name in names):
            if of_split or len(held) > 1:
                remedy = "for domains, give domains=all or their names, of folders that hold these"
            else:
                remedy = f"give {shown(folder.path)}"
            raise ValueError(
                f"{shown(folder.path)} holds {listed(names)} in the place of images of a class; {remedy}; else {LAYOUT}"
            )
    if len(held) == 1:
        (core,) = map(_innermost, held.values())
        if _is_around(core):
            up = f"move them up into {shown(tree.path)}"
            raise ValueError(
                f"{shown(core.path)} holds {listed(_held(core))} and is the only folder in {shown(tree.path)}; if "
                f"these are the classes, {up if of_split else f'give {shown(core.path)}'}; else put the images of "
                "each class into its folder directly"
            )
    shared = _shared_by_all(held) or _shared_by_two(held)
    if shared is not None:
        remedy = "give domains=all, with the same classes in every domain"
        if of_split:
            remedy = f"put them into {shown(tree.path)} directly, or, for domains, lay them out as DOMAIN/train/CLASS/ "
            remedy += "and DOMAIN/test/CLASS/ and give domains=all"
        elif any(_innermost(folder) is not folder for folder in held.values() if _is_around(_innermost(folder))):
            remedy = "move them up into its folders, and give domains=all, with the same classes in every domain"
        raise ValueError(
            f"{shown(tree.path)} holds the same folders, {listed(sorted(shared))}, in several of its folders; if these "
            f"are the classes, {remedy}; else put the images of each class into its folder directly"
        )


class _Meant(NamedTuple):
    """What a folder's name says of a split: the word for it, the other words, and whether these say nothing."""

    word: str
    rest: tuple[str, ...]
    is_all: bool


def _split_in(name: str) -> _Meant | None:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = re.findall(r"[^\W\d_]+|\d+", apart)
    found = [(i, match) for i, word in enumerate(words) if (match := _PERHAPS.fullmatch(word))]
    if not found:
        return None
    at, match = found[0]
    others = [word for i, word in enumerate(words) if i not in dict(found)]
    return _Meant(
        match[1][:3], (*words[:at], f"*{match[2]}", *words[at + 1 :]), all(map(_SAYS_NOTHING.fullmatch, others))
    )


def _spelling(name: str) -> tuple[bool, bool]:
    return name.islower(), name.isupper()


def _held(folder: Folder) -> dict[str, Folder]:
    """Its folders that hold images, by name."""
    return {name: below for name, below in folder.folders.items() if below.holds_images()}


def _walk(folder: Folder) -> Iterator[Folder]:
    yield folder
    for below in folder.folders.values():
        yield from _walk(below)


def _is_around(folder: Folder) -> bool:
    """Whether what it holds is folders, but for few images that lie about."""
    return len(folder.images) < len(_held(folder))


def _innermost(folder: Folder) -> Folder:
    """The first folder, going down, that holds more than one folder."""
    while not folder.images and len(held := _held(folder)) == 1:
        (folder,) = held.values()
    return folder


def _shared_by_all(held: Mapping[str, Folder]) -> set[str] | None:
    """The names of two or more folders that are the same in all of `held`, and no dates."""
    cores = [core for core in map(_innermost, held.values()) if _is_around(core)]
    names = [set(_held(core)) for core in cores]
    if len(names) < len(held) or len(names) < 2 or any(one != names[0] for one in names):
        return None
    return names[0] if len(names[0]) > 1 and not all(map(_DATE.fullmatch, names[0])) else None


def _shared_by_two(held: Mapping[str, Folder]) -> set[str] | None:
    """The names of two or more sibling folders that are the same below two of `held`, but for numbered ones."""
    siblings: list[set[str]] = []
    holding: dict[str, list[int]] = {}  # indices in `siblings`, by name
    for top in held.values():
        own = [{name for name in _held(f) if not _NUMBERED.fullmatch(name)} for f in _walk(top) if _is_around(f)]
        own = [names for names in own if len(names) > 1]
        for names in own:
            met = Counter(other for name in names for other in holding.get(name, ()))
            if met and (most := met.most_common(1)[0])[1] > 1:
                return names & siblings[most[0]]
        for names in own:
            for name in names:
                holding.setdefault(name, []).append(len(siblings))
            siblings.append(names)
    return None
