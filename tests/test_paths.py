"""Paths whose bytes are no UTF-8, which a Unix file system may hold: images are taken from there like any others."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from avalanche_clts.cli import main
from avalanche_clts.experiments import read_experiment
from avalanche_clts.experiments.runs.results import read_runs
from avalanche_clts.streams.named import slug

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere want names in Unicode")


def test_images_in_a_folder_whose_name_is_not_utf8(tiny_pair_folder: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    photos = Path(os.fsdecode(b"caf\xe9"))
    for number in range(16):
        folder = photos / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (15 * number, 0, 0)).save(folder / f"{number}.png")
    stream = f"folder:{photos},experiences=2"
    line = ["compare", "--stream", stream, "--strategies", "naive", "--seeds", "1", "--epochs", "1"]
    assert main([*line, "--pair", str(tiny_pair_folder), "--out", "out"]) == 0
    assert read_experiment(Path("out/experiment.toml")).stream == stream
    assert b"caf\xe9" in Path("out/experiment.toml").read_bytes()
    assert read_runs(Path("out"))["arguments"]["stream"] == stream
    assert b"caf\xe9" in Path("out/report.html").read_bytes()
    assert main(["report", "out"]) == 0
    # Two names that differ in such a byte are two streams.
    assert slug(stream) != slug(stream.replace("\udce9", "\udce8"))
    assert main([*line, "--config", "out/experiment.toml", "--pair", str(tiny_pair_folder), "--out", "again"]) == 0
    capfd.readouterr()  # in which the bytes stand as they are: no report of a test may hold them
