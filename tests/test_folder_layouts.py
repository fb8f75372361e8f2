"""Folders of images in any layout: each is read as the split that it is, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from avalanche_clts import split_folder
from avalanche_clts.images.avalanche import class_names
from avalanche_clts.streams.named import parse_stream
from tests.folder_cases import DIVIDED, GIVEN, TWO, WANTED, Case, read_or_refused
from tests.image_folders import also, at, both, fill, flat, image_at, pacs, split

CASES = {
    # Splits
    "classes": Case(fill, DIVIDED),
    "train and test": Case(split("train", "test"), GIVEN),
    "Training and Test": Case(split("Training", "Test"), GIVEN),
    "TRAIN and TEST": Case(split("TRAIN", "TEST"), GIVEN),
    "Train and Validation": Case(split("Train", "Validation"), GIVEN),
    "train and dev": Case(split("train", "dev"), GIVEN),
    "training and testing": Case(split("training", "testing"), GIVEN),
    "train and valid": Case(split("train", "valid"), GIVEN),
    "train, val and test": Case(
        lambda root: (split("train", "test")(root), fill(root / "val", count=3)),
        GIVEN,
        told=r"images of val/ are left out; train/ is trained and test/ tested on",
    ),
    "train alone": Case(split("train"), DIVIDED),
    "train and test_images": Case(
        split("train", "test_images"), f"test_images looks like one of train and test.*{WANTED}"
    ),
    "train2017 and val2017": Case(
        split("train2017", "val2017"), f"train2017 looks like one of train and test.*{WANTED}"
    ),
    "train and more": Case(split("train", "photos"), f"holds photos/ beside train/.*{WANTED}"),
    "train and TRAIN": Case(split("train", "TRAIN"), "holds TRAIN/, train/, which mean the same; leave one"),
    "test alone": Case(split("test"), f"holds test/ but no train/; {WANTED}"),
    "test without classes": Case(
        lambda root: (fill(root / "train"), image_at("test/0.png", "test/1.png")(root)),
        r"test must hold a subfolder for each class.*give .*/train alone, which is then divided",
    ),
    "train without classes": Case(image_at("train/0.png", "test/0.png"), f"train must hold a subfolder.*{WANTED}"),
    "images alone": Case(image_at("0.png", "1.png"), f"must hold a subfolder for each class.*{WANTED}"),
    "nothing": Case(lambda root: None, f"must hold a subfolder for each class.*{WANTED}"),
    "trains beside buses": Case(
        flat("bus", "train"),
        (["bus", "train"], 8, 2),
        told="train is taken for a class, of trains, beside bus/; if its images are to train on, wanted is",
    ),
    "Trains beside Buses": Case(flat("Bus", "Train"), (["Bus", "Train"], 8, 2), told="Train is taken for a class"),
    "Train beside bus": Case(flat("bus", "Train"), f"Train holds images directly, beside bus/; {WANTED}.*rename it"),
    **{
        f"{name} beside classes": Case(
            also(flat(name)), f"{name} holds images directly, beside cat/, dog/; {WANTED}.*if it is a class, rename it"
        )
        for name in ("test", "val", "validation", "training", "dev", "Test")
    },
    **{
        f"{train} and {test} without classes": Case(
            flat(train, test), f"({train}|{test}) looks like one of train and test, by another name; {WANTED}"
        )
        for train, test in (
            ("train_images", "test_images"),
            ("Trainset", "Testset"),
            ("x_train", "x_test"),
            ("xtrain", "xtest"),
            ("cifar-train", "cifar-eval"),
            ("train2017", "val2017"),
            ("TrainA", "TestA"),
        )
    },
    "trainA, trainB, testA, testB": Case(
        flat("trainA", "trainB", "testA", "testB"), f"looks like one of train and test, by another name; {WANTED}"
    ),
    "test_images beside classes": Case(also(flat("test_images")), f"test_images looks like one of.*{WANTED}.*rename"),
    "bullet trains and test tubes": Case(flat("bullet train", "test tube"), (["bullet train", "test tube"], 8, 2)),
    "bullet trains in a folder of their own": Case(
        both(flat("tram"), at("bullet train", "images")), (["bullet train", "tram"], 8, 2)
    ),
    "a test tube": Case(lambda root: fill(root, "beaker", "test tube"), (["beaker", "test tube"], 8, 2)),
    "other classes to test on": Case(
        lambda root: (fill(root / "train"), fill(root / "test", "cat", "cow")), "hold different classes: cow, dog"
    ),
    "an empty class to test on": Case(
        lambda root: (split("train", "test")(root), [f.unlink() for f in (root / "test" / "dog").iterdir()]),
        "test holds no images in dog/",
    ),
    "CLASS/train": Case(
        image_at("cat/train/0.png", "cat/test/0.png", "dog/train/0.png"), f"cat holds test/, train/.*{WANTED}"
    ),
    "a folder around it": Case(split("photos/train", "photos/test"), r"give .*/photos; else"),
    "a folder around classes": Case(lambda root: fill(root / "photos"), r"if these are the classes, give .*/photos;"),
    "classes with folders of their own": Case(
        image_at(*(f"cat/{k}/{i}.png" for k in "ab" for i in range(3)), *(f"dog/{i}.png" for i in range(4))),
        (TWO, 8, 2),
    ),
    "folders around it": Case(
        both(at("a/b/train"), at("a/b/test")), "a/b holds test/, train/ in the place of images of a class; give .*/a/b;"
    ),
    "folders around classes": Case(at("a/b"), "a/b holds cat/, dog/ and is the only folder in .*give .*/a/b;"),
    "a folder around the classes of train": Case(
        both(at("train/a"), at("test/a")), "train/a holds cat/, dog/ and is the only .*, move them up into .*/train;"
    ),
    "a folder around the classes of test": Case(
        both(at("train"), at("test/a")), "test/a holds cat/, dog/ and is the only .*, move them up into .*/test;"
    ),
    "sessions": Case(both(at("cat", "2021"), at("dog", "2021")), DIVIDED),
    "sessions of several years": Case(
        both(at("cat", "2021-03", "2022", count=3), at("dog", "2021-03", "2022", count=3)), (TWO, 10, 2)
    ),
    "numbered sessions": Case(
        both(at("cat", "day 1", "day 2", count=3), at("dog", "day 1", "day 2", "day 3", count=2)), (TWO, 10, 2)
    ),
    "CLASS/images": Case(both(at("train/cat", "images"), at("train/dog", "images"), at("test")), (TWO, 10, 10)),
    "CLASS/raw/jpg": Case(both(at("cat/raw", "jpg"), at("dog/raw", "jpg")), DIVIDED),
    "a class of vehicles, trains among them": Case(
        both(at("animals", "cat", "dog", count=2), at("vehicles", "bus", "train", count=2)),
        (["animals", "vehicles"], 6, 2),
    ),
    "loose images beside classes": Case(
        also(image_at("preview.png")), DIVIDED, told="1 images that are in no class's folder, such as preview.png"
    ),
    # Domains
    "domains, not named": Case(pacs, "photo holds test/, train/.*give domains=all or their names"),
    "domains without train, not named": Case(
        lambda root: (fill(root / "art"), fill(root / "clip")), "the same folders, cat/, dog/, .*give domains=all"
    ),
    "domains of unequal classes, not named": Case(
        both(at("art"), at("clip", "cat", "dog", "cow")),
        "the same folders, cat/, dog/, in several .*give domains=all, with the same classes in every domain; else put",
    ),
    "one of them with a loose image": Case(
        both(at("art"), at("clip", "cat", "dog", "cow"), image_at("art/preview.png")), "the same folders, cat/, dog/"
    ),
    "domains of digits, not named": Case(
        both(at("mnist", "0", "1"), at("usps", "0", "1")), "the same folders, 0/, 1/, .*give domains=all"
    ),
    "domains in the splits": Case(
        both(at("train/art"), at("train/clip"), at("test/art"), at("test/clip")),
        "train holds the same folders, cat/, dog/.*for domains, lay them out as DOMAIN/train/CLASS/ and DOMAIN/test/CL",
    ),
    "parts with a folder around the classes": Case(
        both(at("part1/images"), at("part2/images")), "the same folders, cat/, dog/.*move them up into its folders, and"
    ),
    "domains of several years": Case(
        both(*(at(f"{place}/{year}") for place in ("north", "south") for year in (2020, 2021))),
        "the same folders, cat/, dog/",
    ),
    "all domains": Case(pacs, (TWO, 20, 8), {"domains": "all"}),
    "domains in their order": Case(pacs, (TWO, 20, 8), {"domains": ["sketch", "photo"]}),
    "domains that are divided": Case(
        lambda root: (fill(root / "a"), fill(root / "b")), (TWO, 16, 4), {"domains": "all"}
    ),
    "a domain that is not there": Case(
        pacs, r"domains is \['photo', 'art'\].*photo/, sketch/", {"domains": ["photo", "art"]}
    ),
    "domains=3": Case(pacs, r"domains is 3; it must be names of folders, such as", {"domains": 3}),
    "domains=[3]": Case(pacs, r"domains is \[3\]; it must be names of folders", {"domains": [3]}),
    "a domain twice": Case(pacs, "name each once", {"domains": ["photo", "photo"]}),
    "domains and n_experiences": Case(
        pacs, "n_experiences is 3, but there are 2 domains", {"domains": "all", "n_experiences": 3}
    ),
    "domains of other classes": Case(
        lambda root: (fill(root / "a"), fill(root / "b", "cat", "cow")),
        "different classes: cow, dog",
        {"domains": "all"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_layout_is_read_as_what_it_is_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    read_or_refused(CASES[name], tmp_path)


# Domains


def test_domains_are_experiences_of_the_same_classes(tmp_path: Path) -> None:
    pacs(tmp_path)
    benchmark = split_folder(tmp_path, domains=["sketch", "photo"], return_task_id=True)
    for stream in (benchmark.train_stream, benchmark.test_stream):
        assert [sorted(e.classes_in_this_experience) for e in stream] == [[0, 1], [0, 1]]
        assert [class_names(e.dataset) for e in stream] == [{0: "cat", 1: "dog"}] * 2
        assert [e.task_labels for e in stream] == [[0], [1]]
        assert [e.dataset[0][0].shape[0] for e in stream] == [3, 3], "a coloured set"
    greys = [bool((x == x[:1]).all()) for x in (benchmark.train_stream[k].dataset[0][0] for k in range(2))]
    assert greys == [True, False], "the sketches first"


def test_domains_of_a_named_stream(tmp_path: Path) -> None:
    pacs(tmp_path)
    stream = parse_stream(f"folder:{tmp_path},domains=all")
    firsts = {bool((x == x[:1]).all()) for x in (stream.build(seed).train_stream[0].dataset[0][0] for seed in range(5))}
    assert firsts == {True, False}, "the seed orders them"
    named = parse_stream(f"folder:{tmp_path},domains=photo+sketch,part=1/2")
    assert named.options["domains"] == ["photo", "sketch"]
    assert [len(experience.dataset) for experience in named.build(0).train_stream] == [6, 6]
