"""CORe50: classes are called what the run and scenario number them by. A stand-in has its files and layout."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest
from avalanche.benchmarks.classic.core50 import nbatch
from avalanche.benchmarks.datasets.core50.core50_data import name2cat, scen2dirs
from PIL import Image

from avalanche_clts import LabelCaptioner
from avalanche_clts.images.avalanche import raw_images
from avalanche_clts.memory.origins import Origin
from avalanche_clts.streams.classic import core50_run
from avalanche_clts.streams.named import parse_stream

OBJECTS = [f"{category}{number}" for category in name2cat for number in range(1, 6)]
SAID = {
    "plug_adapter": "a plug adapter",
    "mobile_phone": "a mobile phone",
    "scissor": "scissors",
    "light_bulb": "a light bulb",
    "can": "a can",
    "glass": "glasses",
    "ball": "a ball",
    "marker": "a marker",
    "cup": "a cup",
    "remote_control": "a remote control",
}


def prompt_of(number: int) -> str:
    """Of object `number`, from 0, told by the picture's file alone."""
    label = OBJECTS[number]
    return f"a photo of {SAID[label[:-1]]} {label[-1]}"


def order(run: int) -> list[int]:
    """Which object each class is in new classes: the first ten are one of each category, the others come as they do."""
    firsts = list(range(0, 50, 5))
    others = [i for i in range(50) if i not in firsts]
    random.Random(run).shuffle(others)
    return firsts + others


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture an object, whose shade tells which it is."""
    root = tmp_path_factory.mktemp("core50")
    for number in range(50):
        picture = root / "core50_32x32" / path(number)
        picture.parent.mkdir(parents=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(picture)
    numbered = dict(enumerate(OBJECTS))
    names = {
        "ni": [numbered] * 10,
        "nic": [numbered] * 10,
        "nc": [{i: OBJECTS[number] for i, number in enumerate(order(run))} for run in range(10)],
    }
    one_each = {scenario: [[[] for _ in range(80)] for _ in range(10)] for scenario in ("ni", "nc", "nic")}
    contents = {"paths": [path(i) for i in range(50)], "LUP": one_each, "labels": one_each, "labels2names": names}
    for name, content in contents.items():
        (root / f"{name}.pkl").write_bytes(pickle.dumps(content))
    (root / "batches_filelists").mkdir()
    (root / "NIC_v2_79_cat").mkdir()  # the lists of categories, which no named stream reads
    return root


def path(number: int) -> str:
    return f"s1/o{number + 1}/C_01_{number + 1:02d}_000.png"


def write_lists(root: Path, scenario: str, run: int) -> None:
    objects = order(run) if scenario == "nc" else list(range(50))
    class_of = {number: i for i, number in enumerate(objects)}
    folder = root / scen2dirs[scenario] / f"run{run}"
    folder.mkdir(parents=True)

    def write(name: str, numbers: list[int]) -> None:
        lines = [f"{path(number)} {class_of[number]}\n" for number in numbers]
        (folder / f"{name}_filelist.txt").write_text("".join(lines))

    shares = [objects] * nbatch["ni"] if scenario == "ni" else [objects[:10]]
    shares += [objects[10 + 5 * (i % 8) :][:5] for i in range(nbatch[scenario] - len(shares))]
    for i, numbers in enumerate(shares):
        write(f"train_batch_{i:02d}", numbers)
    write("test", objects)


@pytest.mark.parametrize(
    ("scenario", "seed"), [("nc", 0), ("nc", 3), ("ni", 1), ("nic", 2), ("nicv2_79", 4), ("nicv2_391", 5)]
)
def test_prompts_name_the_objects_in_the_pictures(root: Path, scenario: str, seed: int) -> None:
    write_lists(root, scenario, core50_run(seed))
    benchmark = parse_stream(f"core50:scenario={scenario}", root).build(seed)
    assert len(benchmark.train_stream) == nbatch[scenario]
    captioner = LabelCaptioner("a photo of a {class_name}")
    training = list(benchmark.train_stream)
    for experience in [*training[:9], training[-1], *benchmark.test_stream]:
        names = Origin.of(experience).names
        assert names is not None
        targets = [int(target) for target in experience.dataset.targets]
        pictures = raw_images(experience.dataset, range(len(targets)))
        said = captioner.caption(pictures, [names[target] for target in targets])
        assert said == [prompt_of(picture.getpixel((0, 0))[0]) for picture in pictures]
