"""Captioning and generation by several processes: the same as by one, and what happens when one of them dies."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avalanche_clts import Caption, CaptionMemory, Pair
from avalanche_clts.cli import main
from avalanche_clts.pair.bulk import caption_files, generate_files, image_files, read_prompts
from avalanche_clts.pair.distributed import spread

PROMPTS = ["a thin seven", "a two", "a thin seven", "nine", "a photo of zero"]


def launch(count: int, code: str, *arguments: str) -> list[subprocess.Popen]:
    """`count` processes as `accelerate launch` starts them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def finish(processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    outputs = [process.communicate(timeout=240) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


CLI = "import sys; from avalanche_clts.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def folder_of_images(tmp_path: Path) -> Path:
    random = np.random.RandomState(0)
    for i in range(7):
        file = tmp_path / "images" / f"{i % 2}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.randint(0, 256, (16, 16, 3)).astype(np.uint8)).save(file)
    return tmp_path / "images"


def test_several_processes_make_the_same_of_a_folder_as_one(
    folder_of_images: Path, tiny_pair_folder: Path, tmp_path: Path
) -> None:
    pair = ["--pair", str(tiny_pair_folder)]
    for name, counts in (("one", (None, None)), ("many", (3, 2))):
        captions, images = tmp_path / name / "metadata.jsonl", tmp_path / name / "generated"
        commands = [
            ["caption", str(folder_of_images), "--out", str(captions), *pair],
            ["generate", "--captions", str(captions), "--out", str(images), *pair],
        ]
        for command, count in zip(commands, counts, strict=True):
            if count is None:
                assert main(command) == 0
            else:
                for code, _, errors in finish(launch(count, CLI, *command)):
                    assert code == 0, errors
    one, many = ([json.loads(x) for x in (tmp_path / n / "metadata.jsonl").open()] for n in ("one", "many"))
    assert one == many
    assert len(one) == 7
    of_one, of_many = (tmp_path / name / "generated" for name in ("one", "many"))
    assert (of_one / "metadata.jsonl").read_text() == (of_many / "metadata.jsonl").read_text()
    assert len(list(of_many.glob("*.png"))) == 7
    for file in of_one.glob("*.png"):
        difference = np.asarray(Image.open(file), int) - np.asarray(Image.open(of_many / file.name), int)
        assert np.abs(difference).max() <= 1


SPREAD = """
import sys, numpy as np
from PIL import Image
from avalanche_clts import load_pair
from avalanche_clts.pair.abilities import generate_at
from avalanche_clts.pair.distributed import spread
pair = spread(load_pair(sys.argv[1]))
prompts = sys.argv[3:]
images = pair.generator.generate(prompts, range(len(prompts)))
captions = pair.captioner.caption(images)
assert pair.generator.name_or_path.endswith("generator")
small = generate_at(pair.generator, prompts, range(len(prompts)), (4, 3))
for image, whole in zip(small, images, strict=True):
    assert image.tobytes() == whole.resize((4, 3), Image.Resampling.LANCZOS).tobytes()
(alone,) = generate_at(pair.generator, prompts[:1], [0], None)  # fewer than there are processes
assert np.abs(np.asarray(alone, int) - np.asarray(images[0], int)).max() <= 1
assert pair.generator.cut_prompts(["a photo " * 50, "zero"]) == 1
rank = __import__("os").environ["RANK"]
np.savez(f"{sys.argv[2]}/{rank}.npz", captions=np.array(captions), images=np.stack([np.asarray(i) for i in images]))
"""


def test_every_process_gets_everything_in_order(tiny_pair: Pair, tiny_pair_folder: Path, tmp_path: Path) -> None:
    assert spread(tiny_pair) is tiny_pair, "one process has nothing to spread"
    for code, _, errors in finish(launch(2, SPREAD, str(tiny_pair_folder), str(tmp_path), *PROMPTS)):
        assert code == 0, errors
    expected = tiny_pair.generator.generate(PROMPTS, range(5))
    for rank in range(2):
        found = np.load(tmp_path / f"{rank}.npz")
        assert all(np.abs(np.asarray(a, int) - b).max() <= 1 for a, b in zip(expected, found["images"], strict=True))
        assert found["captions"].tolist() == np.load(tmp_path / "0.npz")["captions"].tolist()
        assert len(found["captions"]) == 5


DYING = """
import os, sys
from pathlib import Path
from avalanche_clts import load_pair
from avalanche_clts.pair import bulk
from avalanche_clts.pair.loading import pair_identity
bulk._AT_ONCE = 2
pair = load_pair(sys.argv[1])
whole = pair.generator.generate
calls = []
def generate(prompts, seeds):
    calls.append(len(prompts))
    if os.environ["RANK"] == "1" and len(calls) == 2:
        os.kill(os.getpid(), 9)
    return whole(prompts, seeds)
pair.generator.generate = generate
bulk.generate_files(sys.argv[3:], range(len(sys.argv) - 3), pair.generator, Path(sys.argv[2]), identity="tiny")
"""


def test_when_a_process_dies_the_others_say_so_and_a_rerun_completes_the_rest(
    tiny_pair: Pair, tiny_pair_folder: Path, tmp_path: Path
) -> None:
    prompts = PROMPTS * 4
    first, second = finish(launch(2, DYING, str(tiny_pair_folder), str(tmp_path / "out"), *prompts))
    assert second[0] == -9
    assert first[0] == 1
    assert "another of the 2 processes of this run has ended" in first[2]
    finished = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*.png")}
    assert len(finished) == 12, "ten of the first process, two of the second"
    files = generate_files(prompts, range(20), tiny_pair.generator, tmp_path / "out", identity="tiny")
    assert len(files) == 20
    assert all(file.exists() for file in files)
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == time for name, time in finished.items())
    expected = tiny_pair.generator.generate(prompts, range(20))
    for file, image in zip(files, expected, strict=True):
        assert np.abs(np.asarray(Image.open(file), int) - np.asarray(image, int)).max() <= 1


# In one process


def test_interrupted_captioning_goes_on(folder_of_images: Path, tiny_pair: Pair, tmp_path: Path, monkeypatch) -> None:
    files = image_files([folder_of_images])
    assert len(files) == 7
    monkeypatch.setattr("avalanche_clts.pair.bulk._AT_ONCE", 3)
    monkeypatch.setattr(tiny_pair.captioner, "batch_size", 3)
    captioned: list[int] = []
    whole = tiny_pair.captioner.caption

    def failing(images: list[Image.Image]) -> list[str]:
        captioned.append(len(images))
        if len(captioned) == 2:
            raise KeyboardInterrupt
        return whole(images)

    monkeypatch.setattr(tiny_pair.captioner, "caption", failing)
    out = tmp_path / "captions" / "metadata.jsonl"
    with pytest.raises(KeyboardInterrupt):
        caption_files(files, tiny_pair.captioner, out)
    (part,) = (file for file in out.parent.iterdir() if not file.name.endswith(".lock"))
    part.write_text(part.read_text()[:-5])  # the last line was cut short
    texts = caption_files(files, tiny_pair.captioner, out)
    assert captioned == [3, 3, 3, 2]
    assert texts == [whole([Image.open(file)])[0] for file in files]
    assert [file.name for file in out.parent.iterdir()] == ["metadata.jsonl"]


class Killed:
    """A captioner and a generator whose process ends at the 300th."""

    def __init__(self) -> None:
        self.made = 0

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        return [self._one("a photo") for _ in images]

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        return [self._one(Image.new("RGB", (8, 8))) for _ in prompts]

    def _one(self, made: Any) -> Any:
        self.made += 1
        if self.made == 300:
            os._exit(9)
        return made


def test_little_is_lost_of_a_process_that_is_killed(folder_of_images: Path, tmp_path: Path) -> None:
    for number in range(500):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number:03}.png")
    images = sorted(tmp_path.glob("*.png"))
    out = tmp_path / "captions" / "metadata.jsonl"
    for work in (
        lambda: caption_files(images, Killed(), out),
        lambda: generate_files(["a"] * 500, range(500), Killed(), tmp_path / "made", identity="killed"),
    ):
        (process := get_context("fork").Process(target=work)).start()
        process.join()
        assert process.exitcode == 9
    (part,) = out.parent.glob("metadata.jsonl.part-*")
    assert len(part.read_text().split("\n")) > 250
    assert len(list((tmp_path / "made").glob("*.png"))) > 250


def test_one_command_at_a_time_writes_to_a_place(folder_of_images: Path, tiny_pair: Pair, tmp_path: Path) -> None:
    files, out = image_files([folder_of_images]), tmp_path / "captions.jsonl"

    class Another:
        """Begins another command before it answers."""

        def caption(self, images: Sequence[Image.Image]) -> list[str]:
            with pytest.raises(OSError, match=rf"captions\.jsonl is in use by process {os.getpid()}"):
                caption_files(files, tiny_pair.captioner, out)
            return ["a photo"] * len(images)

    assert caption_files(files, Another(), out) == ["a photo"] * 7
    assert {file.name for file in tmp_path.iterdir()} == {"captions.jsonl", "images"}


def test_names_of_files_are_no_patterns(folder_of_images: Path, tiny_pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "captions[1]*.jsonl"
    assert len(caption_files(image_files([folder_of_images]), tiny_pair.captioner, out)) == 7
    assert {file.name for file in tmp_path.iterdir()} == {out.name, "images"}


def test_a_captioner_that_wrote_nothing_is_in_nobodys_way(
    folder_of_images: Path, tiny_pair: Pair, tmp_path: Path
) -> None:
    files, out = image_files([folder_of_images]), tmp_path / "captions.jsonl"

    class Stopped:
        def caption(self, images: Sequence[Image.Image]) -> list[str]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caption_files(files, Stopped(), out, identity="stopped")
    caption_files(files, tiny_pair.captioner, out, identity="tiny")
    with pytest.raises(ValueError, match="holds captions of another captioner"):
        caption_files(files, tiny_pair.captioner, out, identity="stopped")
    caption_files(files, tiny_pair.captioner, out.with_suffix(".txt"), identity="of another file beside it")
    caption_files(files, tiny_pair.captioner, out, identity="tiny")
    own = tmp_path / "mine.jsonl.captioner.json"
    own.write_text('{"my": "settings"}')
    with pytest.raises(ValueError, match=r"mine\.jsonl\.captioner\.json is damaged"):
        caption_files(files, tiny_pair.captioner, tmp_path / "mine.jsonl", identity="tiny")
    assert own.read_text() == '{"my": "settings"}'


def test_images_are_generated_into_the_folder_where_one_is(
    tiny_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    generate_files(["a"], [0], tiny_pair.generator, Path(), identity="tiny")
    assert {file.name for file in tmp_path.iterdir()} == {"0000.png", "generated.json", "metadata.jsonl"}


def test_large_photographs_are_open_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avalanche_clts.pair.bulk._PIXELS", 3000)
    for number in range(7):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(tmp_path / f"{number}.png")
    counts = []

    class Counting:
        batch_size = 64

        def caption(self, images: Sequence[Image.Image]) -> list[str]:
            counts.append(len(images))
            return [str(image.getpixel((0, 0))[0]) for image in images]

    assert caption_files(image_files([tmp_path]), Counting(), tmp_path / "captions.jsonl") == list("0123456")
    assert counts == [3, 3, 1]


def test_images_of_another_run_are_not_taken_for_this_ones(tiny_pair: Pair, tmp_path: Path) -> None:
    generate_files(PROMPTS, range(5), tiny_pair.generator, tmp_path, identity="tiny")
    others = [(PROMPTS[::-1], range(5), "tiny"), (PROMPTS, range(1, 6), "tiny"), (PROMPTS, range(5), "another")]
    for prompts, seeds, identity in others:
        with pytest.raises(ValueError, match="holds images of other texts, seeds or another generator"):
            generate_files(prompts, seeds, tiny_pair.generator, tmp_path, identity=identity)


def test_images_of_ones_own_are_not_taken_for_generated_ones(tiny_pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "mine.png", "text": "mine"}')
    with pytest.raises(ValueError, match=r"holds metadata.jsonl of your own"):
        generate_files(PROMPTS, range(5), tiny_pair.generator, tmp_path, identity="tiny")
    assert [file.name for file in tmp_path.iterdir()] == ["metadata.jsonl"]


def test_images_that_were_cut_short_are_made_again(tiny_pair: Pair, tmp_path: Path) -> None:
    files = generate_files(PROMPTS, range(5), tiny_pair.generator, tmp_path, identity="tiny")
    files[2].write_bytes(b"")
    generate_files(PROMPTS, range(5), tiny_pair.generator, tmp_path, identity="tiny")
    assert Image.open(files[2]).size == Image.open(files[1]).size
    (tmp_path / "generated.json").write_text("{}")
    with pytest.raises(ValueError, match=r"generated.json is damaged; choose another --out"):
        generate_files(PROMPTS, range(5), tiny_pair.generator, tmp_path, identity="tiny")


def test_prompts_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    memory = CaptionMemory(max_size=100)
    memory.add(Caption(text, 0, 0, 0, i) for i, text in enumerate(PROMPTS))
    memory.write(tmp_path / "captions.jsonl.gz")
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps({"file_name": "x", "text": t}) + "\n" for t in PROMPTS))
    (tmp_path / "lines.txt").write_text("\n".join(PROMPTS) + "\n\n")
    for name in ("captions.jsonl.gz", "metadata.jsonl", "lines.txt"):
        assert read_prompts(tmp_path / name) == PROMPTS
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"txt": "b"}\n')
    with pytest.raises(ValueError, match=r'bad\.jsonl, line 2: must be an object with "text"'):
        read_prompts(tmp_path / "bad.jsonl")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="holds no text"):
        read_prompts(tmp_path / "empty.txt")
    whole = (tmp_path / "captions.jsonl.gz").read_bytes()
    for damaged in (whole[:-6], whole[:30] + bytes([whole[30] ^ 255]) + whole[31:], b"no archive"):
        (tmp_path / "cut.jsonl.gz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"cut\.jsonl\.gz is damaged"):
            read_prompts(tmp_path / "cut.jsonl.gz")
    with pytest.raises(FileNotFoundError, match="a folder without images"):
        image_files([tmp_path])
