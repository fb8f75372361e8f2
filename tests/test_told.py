"""What an experiment says before it begins, and while it takes long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from avalanche_clts import Pair
from avalanche_clts.experiments import compare, experiment_of
from avalanche_clts.experiments.told import introduction
from avalanche_clts.pair import estimates
from avalanche_clts.streams.named import parse_stream
from tests.test_compare import QUICK


def told(stream: str = "digits", strategies: tuple[str, ...] = ("clts", "naive"), **given: object) -> str:
    experiment = experiment_of(stream, strategies=strategies, **given)
    return "\n".join(introduction(experiment, parse_stream(stream).build(0), strategies=experiment.chosen))


def test_stream_pair_and_work_are_told() -> None:
    said = told(hyperparameters={"clts": {"replay_size": 300}}, captions_per_class=7)
    assert "stream: digits, 801 training images of 8x8, 10 classes in 5 experiences" in said
    assert "pair: embedded on cpu; it knows 8x8 digits and drawn shapes" in said
    assert "to make: up to 70 captions and 1,500 images in each of 3 runs of CLTS" in said
    alone = told(strategies=("naive",), seeds=1)
    assert "pair:" not in alone
    assert "to make" not in alone


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ({}, "searched on Split Digits"),
        ({"tune": True}, "searched on images held out of training, and a seed that is not reported"),
        ({"strategies": ("naive",)}, "as the strategies have them"),
        ({"stream": "shapes"}, "searched on Split Shapes"),
        ({"hyperparameters": {"clts": {"replay_size": 7}}}, "set by hand (clts.replay_size=7)"),
    ],
)
def test_origin_of_the_hyperparameters_is_told(given: dict, origin: str) -> None:
    (line,) = [line for line in told(**given).splitlines() if line.startswith("hyper-parameters: ")]
    assert origin in line


def test_it_is_told_before_anything_runs(tiny_pair_folder: Path, tmp_path: Path, capsys) -> None:
    asked = replace(
        QUICK,
        seeds=1,
        pair=str(tiny_pair_folder),
        strategies=("naive",),
        hyperparameters={"naive": {"learning_rate": 0.002}},
    )
    compare(asked, out=tmp_path)
    assert "stream: digits" in capsys.readouterr().err.splitlines()[0]
    assert "hyper-parameters set by hand (naive.learning_rate=0.002)" in (tmp_path / "report.html").read_text()


def test_how_long_images_take_is_told_after_the_first_batch(tiny_pair: Pair, monkeypatch, capsys) -> None:
    tiny_pair.generator.batch_size = 2
    tiny_pair.generator.generate(["zero"] * 6, range(6))
    assert "min" not in capsys.readouterr().err, "what is soon done is not worth a line"
    monkeypatch.setattr(estimates, "_LONG", 0)
    tiny_pair.generator.generate(["zero"] * 6, range(6))
    assert capsys.readouterr().err.count("generating 6 images: about 0 min") == 1
