"""What an experiment says before it begins, and while it takes long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from avalanche_clts import Pair, load_pair
from avalanche_clts.cli import main
from avalanche_clts.experiments import compare, experiment_of
from avalanche_clts.experiments.told import introduction, origin_of_settings
from avalanche_clts.pair import estimates
from avalanche_clts.pair.catalogue import PREFIX
from avalanche_clts.pair.prompts import fill
from avalanche_clts.streams.blood import CLASS_NAMES as BLOOD
from avalanche_clts.streams.named import parse_stream
from tests.conftest import DIGITS
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
    ("stream", "pair"),
    [
        ("digits", "embedded"),
        ("split-mnist", "embedded-mnist-blood"),
        ("rotated-mnist", "embedded-mnist-blood"),
        ("split-bloodmnist:size=64", "embedded-mnist-blood"),
        ("split-cifar10", "embedded"),
    ],
)
def test_streams_have_the_embedded_pair_that_knows_them(stream: str, pair: str) -> None:
    assert experiment_of(stream).pair == pair
    assert experiment_of(stream, pair="blip+sd15").pair == "blip+sd15"


def test_the_pair_of_mnist_and_blood_cells_reads_what_it_draws() -> None:
    pair = load_pair("embedded-mnist-blood")
    names = [*DIGITS, *BLOOD]
    looks = [" upright"] * len(DIGITS) + [" purple on white in bright light"] * len(BLOOD)
    prompts = [fill(PREFIX, name) + look for name, look in zip(names, looks, strict=True)]
    images = pair.generator.generate(prompts, range(len(names)))
    said = pair.captioner.caption(images)
    named = [name in caption for name, caption in zip(names, said, strict=True)]
    assert sum(named) >= len(names) - 2, said
    begun = pair.captioner.with_prefix("a handwritten digit {class_name}").caption(images[:8:7], ["zero", "seven"])
    assert [caption.split()[:4] for caption in begun] == [["a", "handwritten", "digit", w] for w in ("zero", "seven")]


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ({}, "searched on Split Digits"),
        ({"tune": True}, "searched on images held out of training, and a seed that is not reported"),
        ({"stream": "shapes"}, "searched on Split Shapes"),
        (
            {"stream": "shapes", "strategies": ("ewc", "gdumb")},
            "searched on Split Shapes; searched on Split Shapes, by an older search, on test images of a seed that is "
            "not reported (gdumb)",
        ),
        ({"stream": "folder:photos", "strategies": ("naive",)}, "as the strategies have them, none searched"),
        ({"stream": "folder:photos"}, "searched on Split Shapes, not on this stream; as they come (naive)"),
        (
            {"hyperparameters": {"clts": {"replay_size": 7}}},
            "searched on Split Digits; set by hand (clts.replay_size=7)",
        ),
    ],
)
def test_origin_of_the_hyperparameters_is_told(given: dict, origin: str) -> None:
    experiment = experiment_of(**{"stream": "digits", "strategies": ("clts", "naive"), **given})
    assert origin_of_settings(experiment, experiment.chosen) == origin


def test_tables_say_where_the_hyperparameters_come_from(tiny_pair_folder: Path, tmp_path: Path, capsys) -> None:
    options = ["--strategies", "naive", "--seeds", "1", "--epochs", "1", "--pair", str(tiny_pair_folder)]
    origins = {
        "digits": "searched on Split Digits",
        "shapes": "set by hand (naive.learning_rate=0.01)",
    }
    for stream, more in (("digits", []), ("shapes", ["--set", "naive.learning_rate=0.01"])):
        out = tmp_path / stream
        assert main(["compare", "--stream", stream, *options, *more, "--out", str(out)]) == 0
        assert f"\n\nHyper-parameters: {origins[stream]}.\n" in capsys.readouterr().out
    for markdown in ([], ["--markdown"]):
        assert main(["report", str(tmp_path / "digits"), *markdown]) == 0
        assert f"\n\nHyper-parameters: {origins['digits']}.\n" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "digits"), str(tmp_path / "shapes")]) == 0
    both = "; ".join(f"{stream}: {origin}" for stream, origin in origins.items())
    assert f"\n\nHyper-parameters: {both}.\n" in capsys.readouterr().out


def test_it_is_told_before_anything_runs(tiny_pair_folder: Path, tmp_path: Path, capsys) -> None:
    asked = replace(
        QUICK,
        seeds=1,
        pair=str(tiny_pair_folder),
        strategies=("naive",),
        hyperparameters={"naive": {"learning_rate": 0.002}},
    )
    compare(asked, out=tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert "stream: digits" in lines[0]
    assert "hyper-parameters: set by hand (naive.learning_rate=0.002)" in "\n".join(lines)
    assert "hyper-parameters set by hand (naive.learning_rate=0.002)" in (tmp_path / "report.html").read_text()


def test_how_long_images_take_is_told_after_the_first_batch(tiny_pair: Pair, monkeypatch, capsys) -> None:
    tiny_pair.generator.batch_size = 2
    tiny_pair.generator.generate(["zero"] * 6, range(6))
    assert "min" not in capsys.readouterr().err, "what is soon done is not worth a line"
    monkeypatch.setattr(estimates, "_LONG", 0)
    tiny_pair.generator.generate(["zero"] * 6, range(6))
    assert capsys.readouterr().err.count("generating 6 images: about 0 min") == 1


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        # A strategy that is like another has the other's.
        ({"strategies": ("name-only",), "hyperparameters": {"clts": {"replay_size": 7}}}, "name-only.replay_size=7"),
        # No search was run on a backbone.
        (
            {"stream": "shapes", "backbone": "efficientnet-lite0"},
            "searched on Split Shapes, not on a backbone; as they come (naive)",
        ),
        ({"tune": True, "strategies": ("captioner",)}, "as the strategies have them, none searched"),
        ({"strategies": ("captioner",)}, "as the strategies have them, none searched"),
    ],
)
def test_every_strategys_origin_is_told(given: dict, origin: str) -> None:
    experiment = experiment_of(**{"stream": "digits", "strategies": ("clts", "naive"), **given})
    assert origin in origin_of_settings(experiment, experiment.chosen)


def test_what_a_search_found_is_told_of_whoever_runs_it_again() -> None:
    given = {"clts": {"replay_size": 7}, "naive": {}}
    experiment = experiment_of("shapes", strategies=("clts", "naive"), hyperparameters=given)
    found = {"clts": {"replay_size": 7}}
    searched = "searched on images held out of training, and a seed that is not reported; as they come (naive)"
    assert origin_of_settings(experiment, experiment.chosen, found) == searched
    assert "set by hand" in origin_of_settings(experiment, experiment.chosen, {"clts": {"replay_size": 8}})
