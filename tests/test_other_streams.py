"""Streams of data that others lay out: each is tried on a small stand-in, in the files that its loader reads.

An image of class k has the colour `colour(k)`, so that it is seen to come under its own class.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks.classic.openloris import fac2dirs
from PIL import Image

from avalanche_clts import Pair, RoutedModel
from avalanche_clts.images.avalanche import class_names, image_format
from avalanche_clts.networks import cnn
from avalanche_clts.pair.prompts import words_of
from avalanche_clts.streams.named import parse_stream
from avalanche_clts.streams.sized import FACTORS
from tests.conftest import make_clts


def colour(target: int) -> tuple[int, int, int]:
    return 10 + 7 * (target % 32), 20 + 30 * (target // 32), 90


def write_image(path: Path, target: int, size: tuple[int, int] = (12, 9)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour(target)).save(path, quality=100, subsampling=0)


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


# The layouts


def blood(root: Path) -> None:
    arrays = {}
    for split, count in (("train", 24), ("val", 8), ("test", 16)):
        labels = np.arange(count) % 8
        arrays[f"{split}_images"] = np.stack([np.full((28, 28, 3), colour(k), np.uint8) for k in labels])
        arrays[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    np.savez(root / "bloodmnist.npz", **arrays)


def cub200(root: Path) -> None:
    """200 species of three images, the last of them to test on; what is outside of the box is black."""
    birds = root / "CUB_200_2011"
    tables: dict[str, list[str]] = {
        "images": [],
        "image_class_labels": [],
        "train_test_split": [],
        "bounding_boxes": [],
    }
    for i in range(600):
        k = i // 3
        path = f"{k + 1:03d}.Black_footed_Bird_{'abcdefghij'[k // 20]}{'abcdefghijklmnopqrst'[k % 20]}/{i}.png"
        image = Image.new("RGB", (14 + i % 3, 10))
        image.paste(colour(k), (2, 3, 10, 9))
        (birds / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        image.save(birds / "images" / path)
        tables["images"].append(f"{i + 1} {path}")
        tables["image_class_labels"].append(f"{i + 1} {k + 1}")
        tables["train_test_split"].append(f"{i + 1} {int(i % 3 < 2)}")
        tables["bounding_boxes"].append(f"{i + 1} 2.0 3.0 8.0 6.0")
    for name, lines in tables.items():
        write_lines(birds / f"{name}.txt", lines)


def imagenet(root: Path) -> None:
    """Two classes an experience; the file of words that the loader makes of the development kit."""
    ids = [f"n{i:08d}" for i in range(1, 21)]
    words = {wnid: (f"kind of fish {i}", "Latin name") for i, wnid in enumerate(ids)}
    torch.save((words, ids), root / "meta.bin")
    for k, wnid in enumerate(ids):
        for split, count in (("train", 2), ("val", 1)):
            for i in range(count):
                write_image(root / split / wnid / f"{i}.JPEG", k, (12 + i, 9 + k))


def stream51(root: Path) -> None:
    """51 classes, and a novel one among the images to test on."""
    for split, count, classes in (("train", 2, 51), ("test", 1, 52)):
        rows = []
        for k in range(classes):
            for frame in range(count):
                path = f"{split}/{k:02d}-{'abcdefghijklmnopqrstuvwxyz'[k % 26]}{'ab'[k // 26]} fish/{frame}.png"
                write_image(root / path, k)
                rows.append([k, 0, 0, frame, [12, 9], [10, 2, 8, 1], path])
        (root / f"Stream-51_meta_{split}.json").write_text(json.dumps(rows))


CLEAR_CLASSES = ["BACKGROUND", "baseball", "bus"]


def clear(root: Path) -> None:
    for split, count in (("train", 2), ("test", 1)):
        write_lines(root / split / "class_names.txt", CLEAR_CLASSES)
        index: dict[str, dict[str, str]] = {}
        for period in range(10):
            index[str(period)] = {}
            for k, name in enumerate(CLEAR_CLASSES):
                images = {}
                for i in range(count):
                    path = f"labeled_images/{period}/{name}/{i}.jpg"
                    write_image(root / split / path, k, (12 + period, 9))
                    images[str(i)] = {"IMG_PATH": path}
                at = f"labeled_metadata/{period}/{name}.json"
                write_lines(root / split / at, [json.dumps(images)])
                index[str(period)][name] = at
        (root / split / "labeled_metadata.json").write_text(json.dumps(index))


def clear_neurips(root: Path) -> None:
    """The layout of the older versions, with their division number 0."""
    write_lines(root / "class_names.txt", [*CLEAR_CLASSES, ""])
    periods = list(range(10))
    write_lines(root / "training_folder" / "bucket_indices.json", [json.dumps(periods)])
    for period in periods:
        lines = []
        for k, name in enumerate(CLEAR_CLASSES):
            for i in range(3):
                path = f"training_folder/labeled_images/{period}/{name}/{i}.jpg"
                write_image(root / path, k)
                lines.append(f"{path} {k}")
        of_split = root / "training_folder" / "testset_ratio_0.3" / "split_0" / str(period)
        write_lines(root / "training_folder" / "filelists" / str(period) / "all.txt", lines)
        write_lines(of_split / "train.txt", [line for line in lines if "/2.jpg" not in line])
        write_lines(of_split / "test.txt", [line for line in lines if "/2.jpg" in line])


def openloris(root: Path) -> None:
    """Three objects; beside what is read, the downloaded files without which the loader downloads."""
    objects = ["bottle_01", "cup_02", "paper_cutter_01"]
    paths, lists = [], {}
    for batch in range(10):
        name = "test" if batch == 9 else f"train_batch_{batch:02d}"
        lists[name] = [f"{name}/clutter/{o}/{i}.jpg {k}" for k, o in enumerate(objects) for i in range(2)]
        paths += [line.split()[0] for line in lists[name]]
        for line in lists[name]:
            write_image(root / line.split()[0], int(line.split()[1]))
        write_lines(root / "batches_filelists" / "domain" / "clutter" / f"{name}.txt", lists[name])
    for archive in ("train.zip", "validation.zip", "test.zip", "batches_filelists.zip"):
        (root / archive).touch()
    for file, content in (
        ("Paths.pkl", paths),
        ("Labels.pkl", {"domain": [[[0]] * 10 for _ in range(4)]}),
        ("LUP.pkl", {"domain": [[[0]] * 10 for _ in range(4)]}),
    ):
        (root / file).write_bytes(pickle.dumps(content))


def endless(root: Path) -> None:
    """Twelve parts, so that 10 stands before 2 in the order of letters; each newly shows a class or none."""
    for split in ("Train", "Test"):
        for part in range(12):
            for k, name in enumerate(["BG", "Tree", "Car", "People", "Streetlamp"]):
                if k in (0, 1 + part % 4):
                    for i in range(2):
                        folder = root / "IncrementalClasses_Classification" / split / str(part) / name
                        write_image(folder / f"{i}.png", k, (12, 12))


LAYOUTS: dict[str, tuple[Callable[[Path], None], int, int, int, list[str]]] = {
    # name: layout, experiences, test experiences, side, names of the first classes in words
    "split-bloodmnist": (
        blood,
        4,
        4,
        28,
        [
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocyte",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ],
    ),
    "split-cub200:size=8": (cub200, 11, 11, 8, ["Black footed Bird aa", "Black footed Bird ab"]),
    "split-cub200:experiences=5": (cub200, 5, 5, 64, ["Black footed Bird aa"]),
    "split-imagenet": (imagenet, 10, 10, 64, ["kind of fish 0", "kind of fish 1"]),
    "stream51:size=16": (stream51, 6, 6, 16, ["aa fish", "ba fish"]),
    "clear:size=32": (clear, 10, 10, 32, ["background", "baseball", "bus"]),
    "clear:version=clear10_neurips2021": (clear_neurips, 10, 10, 64, ["background", "baseball", "bus"]),
    "openloris:size=16": (openloris, 9, 1, 16, ["bottle", "cup", "paper cutter"]),
    "endless-cl-sim:size=16": (endless, 12, 12, 16, ["background", "tree", "car", "people", "street lamp"]),
}


def names_in_words(benchmark: Any) -> dict[int, str]:
    found: dict[int, str] = {}
    for experience in benchmark.train_stream:
        names = class_names(experience.dataset, words_of)
        assert names is not None
        found |= names
    return found


@pytest.mark.parametrize("name", LAYOUTS)
def test_stream_shows_its_data_under_names(name: str, tmp_path: Path) -> None:
    write, n_train, n_test, side, first = LAYOUTS[name]
    write(tmp_path)
    benchmark = parse_stream(name, tmp_path).build(0)
    assert (len(benchmark.train_stream), len(benchmark.test_stream)) == (n_train, n_test)
    for experience in (*benchmark.train_stream, *benchmark.test_stream):
        format = image_format(experience.dataset)
        assert (format.kind, format.size, format.mode) == ("pil", (side, side), "RGB")
        for x, target, task_label in experience.dataset:
            assert x.shape == (3, side, side)
            assert (x[:, side // 2, side // 2] * 255 - torch.tensor(colour(int(target)))).abs().max() < 6
            assert task_label == 0
    names = names_in_words(benchmark)
    assert [names[k] for k in range(len(first))] == first
    assert sorted(names) == list(range(benchmark.n_classes))


def test_parts_of_endless_cl_sim_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    endless(tmp_path)
    benchmark = parse_stream("endless-cl-sim", tmp_path).build(0)
    for stream in (benchmark.train_stream, benchmark.test_stream):
        assert [sorted(e.classes_in_this_experience) for e in stream] == [[0, 1 + part % 4] for part in range(12)]


def test_what_is_never_trained_is_not_tested(tmp_path: Path) -> None:
    stream51(tmp_path)
    benchmark = parse_stream("stream51:experiences=17", tmp_path).build(0)
    assert [len(e.dataset) for e in benchmark.test_stream] == [3] * 17


@pytest.mark.parametrize(("name", "write"), [("split-bloodmnist", blood), ("split-imagenet", imagenet)])
def test_a_seed_is_an_order_of_classes(name: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)
    orders = [parse_stream(name, tmp_path).build(seed).classes_order for seed in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]


@pytest.mark.parametrize(("name", "write"), [("split-bloodmnist:experiences=2", blood), ("openloris", openloris)])
def test_clts_runs_in_it(name: str, write: Callable[[Path], None], tmp_path: Path, tiny_pair: Pair) -> None:
    write(tmp_path)
    benchmark = parse_stream(name, tmp_path).build(0)
    model = RoutedModel(head=cnn(8, channels=3), router=cnn(8, channels=3))
    clts = make_clts(tiny_pair, model=model)
    for experience in benchmark.train_stream[:2]:
        clts.train(experience)
    assert clts.model.router.num_heads == 2
    clts.eval(benchmark.test_stream)


def test_classes_that_do_not_divide_are_refused_by_the_options_name(tmp_path: Path) -> None:
    blood(tmp_path)
    with pytest.raises(ValueError, match="; experiences is 3; 8 classes divide into 1, 2, 4, 8 experiences"):
        parse_stream("split-bloodmnist:experiences=3", tmp_path).build(0)


def test_what_is_to_be_put_there_by_hand_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"put CUB_200_2011/, unpacked from CUB_200_2011\.tgz, into a folder, and give"):
        parse_stream("split-cub200", tmp_path).build(0)


def test_missing_medmnist_is_one_sentence(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "medmnist", None)
    with pytest.raises(ImportError, match=r'not installed; run: pip install "avalanche-clts\[medmnist\]"'):
        parse_stream("split-bloodmnist", tmp_path).build(0)


def test_factors_of_openloris_are_those_of_avalanche() -> None:
    assert set(FACTORS) == set(fac2dirs)
