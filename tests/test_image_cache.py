"""Images that were made are taken from disk: the right ones, by any process, within a number of bytes."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avalanche_clts import CachedGenerator, DiffusionGenerator, Pair
from avalanche_clts.experiments import compare
from avalanche_clts.pair import image_cache
from tests.test_compare import QUICK


class Counting:
    """Noise by the seed; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        self.asked += zip(prompts, seeds, strict=True)
        return [
            Image.fromarray(np.random.RandomState(seed + len(p)).randint(0, 256, (32, 32, 3)).astype(np.uint8))
            for p, seed in zip(prompts, seeds, strict=True)
        ]


def numbers(folder: Path) -> list[int]:
    with closing(sqlite3.connect(folder / "images.sqlite")) as database:
        return [number for (number,) in database.execute("SELECT number FROM images ORDER BY number")]


def test_images_are_made_once_and_kept_for_other_processes(tmp_path: Path) -> None:
    first, again, other = Counting(), Counting(), Counting()
    made = CachedGenerator(first, tmp_path, identity="a").generate(["one", "two", "one"], [1, 2, 3])
    known = CachedGenerator(again, tmp_path, identity="a").generate(["two", "new", "one", "one"], [2, 9, 1, 3])
    assert [k.tobytes() for k in (known[2], known[0], known[3])] == [m.tobytes() for m in made]
    assert again.asked == [("new", 9)]
    CachedGenerator(other, tmp_path, identity="b").generate(["one"], [1])
    assert other.asked == [("one", 1)], "images of another generator were taken"
    small = CachedGenerator(again, tmp_path, identity="a").generate_sized(["one"], [1], (8, 8))
    assert small[0].size == (8, 8), "an image of another size was taken"
    (tmp_path / "images.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(OSError, match=r"images.sqlite cannot be used \(file is not a database\); make room"):
        CachedGenerator(Counting(), tmp_path, identity="a")


@pytest.fixture
def made(tiny_pair_folder: Path, tmp_path: Path):
    """How many images the folder holds after one more was asked of a tiny pipeline with some arguments."""
    weights = tmp_path / "generator"
    shutil.copytree(tiny_pair_folder / "generator", weights)

    def number(**options: object) -> int:
        generator = DiffusionGenerator(weights, **{"steps": 1, "guidance_scale": 1.0} | options)
        expected = generator.generate(["a seven"], [0])[0]
        image = CachedGenerator(generator, tmp_path / "images").generate(["a seven"], [0])[0]
        assert np.abs(np.asarray(image).astype(int) - np.asarray(expected)).max() <= 1
        return len(numbers(tmp_path / "images"))

    number.weights = weights
    return number


def test_an_image_is_taken_only_where_all_that_it_depends_on_is_the_same(made, monkeypatch) -> None:
    assert [made(), made()] == [1, 1]
    assert made(steps=2) == 2
    assert made(guidance_scale=2.0) == 3
    assert made(scheduler="DDIMScheduler") == 4
    file = made.weights / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # a rounding error of the last weight
    file.write_bytes(content)
    os.utime(file, (0, 0))
    assert made() == 5, "weights have changed"
    monkeypatch.setattr(image_cache, "version", lambda name: "another")
    assert made() == 6
    monkeypatch.setattr(image_cache, "_machine", lambda device: "another")
    assert made() == 7


def test_arguments_that_are_changed_later_count_too(tiny_pair: Pair, tmp_path: Path) -> None:
    cached = CachedGenerator(tiny_pair.generator, tmp_path)
    cached.generate(["a seven"], [0])
    tiny_pair.generator.steps = 3
    cached.generate(["a seven"], [0])
    assert len(numbers(tmp_path)) == 2


@pytest.mark.parametrize("max_bytes", [30_000, 400_000])
def test_oldest_images_give_way(tmp_path: Path, max_bytes: int) -> None:
    counting = Counting()
    cached = CachedGenerator(counting, tmp_path, max_bytes=max_bytes, identity="a")
    for start in range(0, 300, 10):
        cached.generate(["x"] * 10, range(start, start + 10))
        assert (tmp_path / "images.sqlite").stat().st_size <= max(max_bytes, 60_000)
    left = numbers(tmp_path)
    assert left == list(range(301 - len(left), 301)), "what is left is not what was made last"
    assert len(left) >= 0.5 * max_bytes / (3 * 32 * 32 + 4096), "far fewer are kept than there is room for"
    cached.generate(["x"] * 2, [299, 0])
    assert counting.asked[300:] == [("x", 0)]


def test_what_is_made_is_kept_though_the_process_ends(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(image_cache, "_LOT", 4)

    class Ending(Counting):
        def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
            if len(self.asked) == 8:
                raise KeyboardInterrupt
            return super().generate(prompts, seeds)

    with pytest.raises(KeyboardInterrupt):
        CachedGenerator(Ending(), tmp_path, identity="a").generate(["x"] * 20, range(20))
    again = Counting()
    CachedGenerator(again, tmp_path, identity="a").generate(["x"] * 20, range(20))
    assert again.asked == [("x", seed) for seed in range(8, 20)]


def test_several_processes_share_a_folder(tmp_path: Path) -> None:
    work = (
        "import sys\nfrom PIL import Image\nfrom avalanche_clts import CachedGenerator\n"
        "class Plain:\n"
        "    def generate(self, prompts, seeds):\n"
        "        return [Image.new('RGB', (32, 32), (seed, 0, 0)) for seed in seeds]\n"
        "cached = CachedGenerator(Plain(), sys.argv[1], max_bytes=40_000, identity='a')\n"
        "for start in range(0, 50, 5):\n"
        "    images = cached.generate(['x'] * 5, range(start, start + 5))\n"
        "    assert [i.getpixel((0, 0))[0] for i in images] == list(range(start, start + 5))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", work, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert (tmp_path / "images.sqlite").stat().st_size <= 40_000


def test_a_generator_of_which_nothing_is_known_needs_an_identity(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="identity is None, and what images of a Counting depend on is not known"):
        CachedGenerator(Counting(), tmp_path)
    with pytest.raises(ValueError, match="max_bytes is 0"):
        CachedGenerator(Counting(), tmp_path, max_bytes=0, identity="a")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot make .*; give another folder"):
        CachedGenerator(Counting(), tmp_path / "file" / "in-it", identity="a")


def test_comparisons_share_images_and_their_seconds_are_not_told(tiny_pair_folder: Path, tmp_path: Path) -> None:
    asked = replace(QUICK, seeds=1, pair=str(tiny_pair_folder), strategies=("clts",))
    runs = [compare(asked, out=tmp_path / name, image_cache=tmp_path / "images")[0] for name in ("one", "two")]
    once = len(numbers(tmp_path / "images"))
    assert once > 0
    assert runs[0]["accuracy_matrix"] == runs[1]["accuracy_matrix"]
    assert set(runs[1]["seconds"].values()) == {None}
    written = json.loads((tmp_path / "two" / "results.json").read_text())["runs"][0]
    assert set(written["seconds"].values()) == {None}
    timed = compare(asked, out=tmp_path / "two")[0]
    assert timed["seconds"]["generation"] > 0, "a run that took images from another was taken for a timed one"
    assert timed["accuracy_matrix"] == runs[0]["accuracy_matrix"]
    assert len(numbers(tmp_path / "images")) == once
