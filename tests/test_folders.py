"""Folders of images: what else lies in them, and what is asked of them, is read or refused in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avalanche_clts import split_folder
from avalanche_clts.streams.named import parse_stream
from tests.folder_cases import DIVIDED, TWO, Case, read_or_refused
from tests.image_folders import (
    BOMB,
    BROKEN,
    EMPTY_CHUNK,
    FLOATS,
    JPEG,
    LATIN,
    also,
    animated,
    at,
    both,
    copied,
    few,
    fill,
    image_at,
    link,
    mixed_sizes,
    pacs,
    picture,
    png,
    split,
    with_file,
    wordnet,
)

ONE = {"n_experiences": 1}

CASES = {
    # Hidden, links, copies
    "an empty .ipynb_checkpoints": Case(also(lambda root: (root / ".ipynb_checkpoints").mkdir()), DIVIDED),
    ".ipynb_checkpoints with images": Case(
        also(image_at(".ipynb_checkpoints/a.png", "cat/.ipynb_checkpoints/b.png")), DIVIDED
    ),
    "what macOS and Windows leave": Case(
        also(image_at("__MACOSX/._0.png", "cat/._0.png", "cat/.DS_Store", "cat/Thumbs.db", "@eaDir/0.png")), DIVIDED
    ),
    "notes beside images": Case(also(lambda root: (root / "cat" / "notes.txt").write_text("of the cat")), DIVIDED),
    "a link in a circle": Case(
        also(link("cat/loop", "."), link("cat/up", ".."), link("cat/itself", "cat/itself")), DIVIDED
    ),
    "classes that link to each other": Case(also(link("cat/dog", "dog"), link("dog/cat", "cat")), DIVIDED),
    "a copy by a link": Case(
        also(link("cat/copy.png", "cat/0.png"), lambda root: os.link(root / "dog/0.png", root / "dog/again.png")),
        DIVIDED,
    ),
    "a link to another class's image": Case(
        also(link("cat/9.png", "dog/0.png")), r"9\.png is the same file as|is the same file as .*9\.png"
    ),
    "a class that is a link to a class": Case(
        also(link("cow", "cat")), "holds no images in cow/ .links to what is read"
    ),
    "test that is a link to train": Case(
        lambda root: (fill(root / "train"), link("test", "train")(root)),
        "test must hold a subfolder.*give .*/train alone",
    ),
    "train that is a link elsewhere": Case(
        lambda root: (fill(root.parent / "elsewhere"), link("train", "../elsewhere")(root)), DIVIDED
    ),
    "a link to nowhere": Case(also(link("cat/gone.png", "cat/never.png")), r"gone\.png is not an image .*No such file"),
    "an empty class": Case(also(lambda root: (root / "cow").mkdir()), "holds no images in cow/"),
    "a copy within a class": Case(also(copied("cat/0.png", "cat/9.png")), (TWO, 9, 2)),
    "a copy in another class": Case(
        also(copied("cat/0.png", "dog/9.png"), copied("cat/1.png", "dog/8.png")),
        (TWO, 10, 2),
        told=r"photos: 2 images are in more than one class, such as .*cat/0\.png and .*dog/9\.png; remove those that",
    ),
    "test that is a copy of train": Case(
        both(at("train"), copied("train", "test")),
        (TWO, 10, 10),
        told=r"10 of 10 images to test on are copies of images to train on, such as .*test/cat/0.* and .*train/cat/0",
    ),
    "copies of both kinds": Case(
        both(split("train", "test"), copied("train/cat/0.png", "test/dog/9.png")),
        (TWO, 10, 5),
        told="1 of 5 images to test on are copies .*; 1 image is in more than one class, such as",
    ),
    "a copy in another domain": Case(
        both(pacs, copied("photo/train/cat/0.png", "sketch/test/cat/9.png")),
        (TWO, 20, 9),
        {"domains": "all"},
        told="1 of 9 images to test on are copies",
    ),
    "damage of equal bytes": Case(
        also(*(lambda root, name=name: (root / name).write_bytes(b"") for name in ("cat/8.png", "dog/8.png"))),
        DIVIDED,
        {"skip_damaged": True},
        told="2 of 12 files are not images",
    ),
    # Damage
    "a truncated PNG": Case(
        with_file(png()[:-60]), r"bad\.png is not an image that Pillow can read .*skip_damaged=True"
    ),
    "a truncated JPEG": Case(with_file(JPEG.getvalue()[:-200], "bad.jpg"), r"bad\.jpg is not an image .*truncated"),
    "a broken chunk": Case(with_file(BROKEN), r"bad\.png is not an image"),
    "an empty chunk": Case(with_file(EMPTY_CHUNK), r"bad\.png is not an image"),
    "too many pixels": Case(with_file(BOMB), r"bad\.png is not an image .*decompression bomb"),
    "an empty file": Case(
        with_file(b""), r"bad\.png is not an image that Pillow can read \(of no format that it knows\)"
    ),
    "a text": Case(with_file(b"<html>404</html>", "bad.jpg"), r"bad\.jpg is not an image"),
    "floating-point numbers": Case(with_file(FLOATS.getvalue(), "bad.tif"), r"bad\.tif .*floating-point numbers"),
    "a format that Pillow does not read": Case(
        with_file(b"\0\0\0\x18ftypheic" + bytes(99), "bad.heic"), r"bad\.heic is not"
    ),
    "damage that is skipped": Case(
        with_file(png()[:-60]), DIVIDED, {"skip_damaged": True}, told=r"bad\.png is not an image .*; 1 left out"
    ),
    "a class with nothing but damage": Case(
        also(lambda root: [f.write_bytes(b"") for f in (root / "dog").iterdir()]),
        "no image of dog that can be opened",
        {"skip_damaged": True},
    ),
    "no image that can be opened": Case(
        also(lambda root: [f.write_bytes(b"") for f in root.rglob("*.png")]),
        r"10 of 10 files are not images that Pillow can read: .*0\.png",
        {"skip_damaged": True},
    ),
    # Files
    "upper-case suffixes": Case(lambda root: fill(root, suffix="PNG"), DIVIDED),
    "GIFs beside PNGs": Case(animated, (TWO, 9, 2)),
    "a suffix of another format": Case(with_file(png(), "really-png.jpg"), (TWO, 9, 2)),
    "no suffix": Case(with_file(png(), "0001"), (TWO, 9, 2)),
    "images of several sizes": Case(
        mixed_sizes, r"0\.png is 9x7 pixels and the first image 8x8; give the size .*5 images differ"
    ),
    "images of several sizes, and a size": Case(mixed_sizes, DIVIDED, {"size": (6, 4)}),
    "damage and several sizes": Case(
        both(mixed_sizes, lambda root: (root / "cat" / "3.png").write_bytes(b"")),
        r"3\.png is not an image .*skip_damaged=True.*; and .*0\.png is 9x7 pixels and the first image 8x8.*5 images",
    ),
    "12 bits in 16": Case(
        both(fill, lambda root: Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(root / "cat" / "dark.png")),
        (TWO, 9, 2),
        told=r"1 images of 16 bits hold no value past 12 bits and come out nearly black, such as .*dark\.png; if",
    ),
    # Names
    "a name of two lines": Case(with_file(b"", "x\ny.png"), r"cat/x\\ny\.png is not an image"),
    "a name of two lines, of another size": Case(
        with_file(png(picture(size=(9, 9))), "x\ny.png"), r"x\\ny\.png is 9x9 pixels"
    ),
    "an empty class of two lines": Case(also(lambda root: (root / "a\nb").mkdir()), r"no images in a\\nb/"),
    "Latin-1": Case(
        lambda root: fill(root, LATIN, "th\N{LATIN SMALL LETTER E WITH ACUTE}"), (["caf\xe9", "th\xe9"], 8, 2)
    ),
    "accents written in two ways": Case(
        lambda root: (fill(root / "train", "cafe\u0301", "dog"), fill(root / "test", "caf\xe9", "dog", count=2)),
        (["caf\xe9", "dog"], 10, 4),
    ),
    "WordNet's ids with words.txt": Case(
        wordnet, (["n01443537", "n02012849", "n03126707"], 9, 6), {"n_experiences": 3}
    ),
    "names of every length": Case(lambda root: fill(root, "x" * 200, "{x}"), (["x" * 200, "{x}"], 8, 2)),
    # Arguments
    "size=0": Case(fill, r"size is 0; it must be a side of 1 to 16384 pixels", {"size": 0}),
    "size=(8, -1)": Case(fill, r"size is \(8, -1\)", {"size": (8, -1)}),
    "test_share=1.5": Case(fill, "test_share is 1.5; it must be between 0 and 1", {"test_share": 1.5}),
    "test_share of all": Case(fill, "test_share is 0.95, which leaves no image of cat", {"test_share": 0.95}),
    "part=(3, 2)": Case(fill, r"part is \(3, 2\); it must be", {"part": (3, 2)}),
    "part=4/4 of a small class": Case(
        few,
        r"part is 4/4, and .* has 2 images of dog to train on, so that this part has none; give at most 2 parts",
        {"part": (4, 4)},
    ),
    "part=2/2": Case(few, (TWO, 4, 3), {"part": (2, 2)}),
    "a class of one image": Case(also(image_at("cow/0.png")), "classes of a single image, such as cow", ONE),
    "3 experiences of 2 classes": Case(fill, "n_experiences is 3; 2 classes divide into 1, 2", {"n_experiences": 3}),
    "seed='a'": Case(fill, "seed is 'a'; it must be a whole number of at least 0", {"seed": "a"}),
    "0 experiences": Case(fill, "n_experiences is 0", {"n_experiences": 0}),
    "skip_damaged='yes'": Case(fill, "skip_damaged is 'yes'; it must be True or False", {"skip_damaged": "yes"}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_folder_is_read_as_what_it_is_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    read_or_refused(CASES[name], tmp_path)


# Names on the command line


@pytest.mark.parametrize(
    ("text", "root", "options"),
    [
        ("photos", "photos", {}),
        ("/a,b/photos,size=32", "/a,b/photos", {"size": 32}),
        ("run=3,final,experiences=2,size=8x9", "run=3,final", {"experiences": 2, "size": (8, 9)}),
        ('"a,size=3",size=32', "a,size=3", {"size": 32}),
        ("'it, is',test=0.5", "it, is", {"test": 0.5}),
        ('"photos"', "photos", {}),
        ("there,size=3,size=32", "there,size=3", {"size": 32}),
        ("photos,skip_damaged=1", "photos", {"skip_damaged": True}),
        ("photos,domains=all", "photos", {"domains": "all"}),
        ("~/photos,size=32", "HOME/photos", {"size": 32}),
        ('"~/a,b"', "HOME/a,b", {}),
        ("~/there,size=3,size=32", "HOME/there,size=3", {"size": 32}),
        ("a/~", "a/~", {}),
    ],
)
def test_a_path_may_hold_commas(text: str, root: str, options: dict[str, Any], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there,size=3").mkdir()
    (tmp_path / "run=3,final").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_stream(f"folder:{text}").options == {"root": root.replace("HOME", str(tmp_path)), **options}


def test_remedies_are_spelt_as_options_of_the_stream(tmp_path: Path) -> None:
    both(mixed_sizes, lambda root: (root / "cat" / "3.png").write_bytes(b""))(tmp_path)
    with pytest.raises(ValueError, match=r"\(skip_damaged=1\).*\(size=64 or size=64x48\)"):
        parse_stream(f"folder:{tmp_path},experiences=2").build(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photos,sise=32", "folder has no option 'sise'"),
        ("photos,64", "folder has no option '64'"),
        ("photos,size=0", "'0' is no value for the option size; write it in pixels"),
        ("photos,size=-4", "'-4' is no value for the option size"),
        ("photos,experiences=0", "'0' is no value for the option experiences; write a whole number of at least 1"),
        ("photos,test=1.5", "'1.5' is no value for the option test; write a share between 0 and 1"),
        ("photos,part=0/0", "'0/0' is no value for the option part; .*K from 1 to N"),
        ("photos,skip_damaged=yes", "'yes' is no value for the option skip_damaged; write 0 or 1"),
        ("photos,domains=a+a", "'a.a' is no value for the option domains; .*each once"),
        ("photos,size=8,size=9", "the option size twice"),
    ],
)
def test_options_of_a_folder_are_refused_before_it_is_opened(
    text: str, message: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match=message) as caught:
        parse_stream(f"folder:{text}")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("names", [("aquarium_fish", "aquarium fish"), ("A_1", "A 1"), ("cat", "cat "), ("_a", "a")])
def test_classes_that_are_called_alike_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    for name in (*names, "dog"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("RGB", (8, 8), (40 * i, len(name), 0)).save(tmp_path / name / f"{i}.png")
    with pytest.raises(ValueError, match="whose names differ in nothing that is said"):
        split_folder(tmp_path, 1)


@pytest.mark.parametrize("order", [[0, 1, 2, 2], [0, 1], [0, 1, 2, 4]])
def test_order_of_classes_holds_each_of_them_once(order: list[int], tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("RGB", (8, 8), (40 * i, ord(name), 0)).save(tmp_path / name / f"{i}.png")
    with pytest.raises(ValueError, match="must hold each of the class ids 0 to 3 once"):
        split_folder(tmp_path, 2, fixed_class_order=order)


def test_images_beside_a_table_of_labels_are_no_stream(tmp_path: Path) -> None:
    fill(tmp_path, "images")
    (tmp_path / "labels.csv").write_text("0.png,cat")
    with pytest.raises(ValueError, match=r"a single class, images; a stream needs two at least; wanted is"):
        split_folder(tmp_path, 1)
