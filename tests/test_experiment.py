"""An experiment is what its file says, and what is recorded was run as it says."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avalanche_clts import cli
from avalanche_clts.cli import main
from avalanche_clts.cli.experiments import asked_experiment
from avalanche_clts.experiments import Experiment, ablate, compare, experiment_of, read_experiment
from avalanche_clts.experiments.config import write_experiment
from avalanche_clts.experiments.experiment import Conditions
from avalanche_clts.experiments.rows import ROWS, Row
from avalanche_clts.experiments.rows import clts as clts_row
from avalanche_clts.experiments.runs import execution, runner
from avalanche_clts.experiments.runs.folder import ResultsFolder
from avalanche_clts.experiments.runs.lock import only_one
from avalanche_clts.experiments.runs.results import to_csv
from avalanche_clts.pair.loading import load_pair
from tests.test_compare import QUICK
from tests.test_pairs import pictures

FILE = """
stream = "digits:experiences=2"
strategies = ["clts", "naive"]
seeds = 1
train_epochs = 1
captions_per_class = 3

[generator]
steps = 2

[hyperparameters.clts]
replay_size = 12
router_epochs = 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "experiment.toml").write_text(FILE)
    return tmp_path / "experiment.toml"


def test_a_file_says_what_is_different_from_the_streams_own(file: Path) -> None:
    experiment = read_experiment(file)
    own = experiment_of("digits:experiences=2", train_epochs=1)
    assert experiment.strategies == ("clts", "naive")
    assert (experiment.train_epochs, experiment.learning_rate) == (1, own.learning_rate)
    assert experiment.hyperparameters["clts"] == {"replay_size": 12, "router_epochs": 1}
    assert experiment.hyperparameters["ewc"] == own.hyperparameters["ewc"]
    assert "train_epochs" not in experiment.hyperparameters["gdumb"], "epochs are for everyone"
    slower = experiment_of("digits", learning_rate=1e-4)
    assert slower.learning_rate == 1e-4
    assert not [name for name, options in slower.hyperparameters.items() if "learning_rate" in options]
    assert read_experiment(file, seeds=2, stream="shapes").stream == "shapes"
    assert read_experiment(file, stream="shapes").learning_rate == experiment_of("shapes").learning_rate


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epochs = 3", "an experiment has no epochs; it has: stream, strategies"),
        ('memory = "none"', "memory is 'none'; it must be one of 'captions'"),
        ("tune = true\nstrategies = ['clts']", "hyperparameters has clts, which the search would overrule"),
        ("train_epochs = 0", "train_epochs is 0"),
        ("train_epochs =", "is no TOML"),
        ("hyperparameters = 3", "hyperparameters is 3"),
        ("hyperparameters.clts = 3", "hyperparameters has clts of 3; it must be a table"),
        ("stream = 3", "stream is 3; it must be a text"),
        ("pair = 3", "pair is 3; it must be a text"),
        ('tune = "yes"', "tune is 'yes'; it must be True or False"),
        ('strategies = "clts"', "strategies is 'clts'; it must be a sequence of texts"),
        ('seeds = "five"', "seeds is 'five'; it must be a whole number"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_named(line: str, message: str, tmp_path: Path, capsys) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(line + ("\n[hyperparameters.clts]\nreplay_size = 12" if "tune" in line else ""))
    assert main(["compare", "--config", str(file), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"clts: --config {file}")
    assert message in error
    assert not (tmp_path / "out").exists()


def test_the_command_line_overrules_a_file(file: Path, tmp_path: Path, capsys) -> None:
    assert main(["ablate", "--config", str(file), "--only", "luck", "--out", str(tmp_path / "out")]) == 2
    assert "--only has luck; known ablations: router-data" in capsys.readouterr().err
    asked = ["compare", "--config", str(file), "--stream", "shapes", "--strategies", "ewc", "--seeds", "4"]
    found = asked_experiment(cli._parsers()[0].parse_args([*asked, "--epochs", "7", "--set", "clts.replay_size=99"]))
    assert (found.stream, found.strategies, found.seeds, found.train_epochs) == ("shapes", ("ewc",), 4, 7)
    assert found.hyperparameters["clts"] == {"replay_size": 99, "router_epochs": 1}
    assert found.generator == {"steps": 2}


def test_every_experiment_is_read_as_it_was_written(tmp_path: Path) -> None:
    of_streams = [
        experiment_of(stream, generator={"guidance_scale": 2.0}, ablations=["routing"], train_epochs=3)
        for stream in ("digits", "shapes", "split-cifar10")
    ]
    for experiment in (*of_streams, QUICK, Experiment()):
        write_experiment(tmp_path / "e.toml", experiment)
        assert read_experiment(tmp_path / "e.toml") == experiment


def test_a_folder_of_results_holds_the_experiment_that_makes_it_again(
    file: Path, tiny_pair_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    first, pair = tmp_path / "first", ["--pair", str(tiny_pair_folder)]
    assert main(["compare", "--config", str(file), *pair, "--set", "clts.router_epochs=2", "--out", str(first)]) == 0
    kept = read_experiment(first / "experiment.toml")
    assert kept.hyperparameters["clts"] == {"replay_size": 12, "router_epochs": 2}
    assert kept.generator == {"steps": 2}
    # The same runs: none has to be computed again.
    monkeypatch.setattr(execution, "run", lambda *a, **k: pytest.fail("a finished run was computed again"))
    assert main(["compare", "--config", str(first / "experiment.toml"), "--out", str(first)]) == 0
    assert read_experiment(first / "experiment.toml") == kept


def test_comparison_and_ablation_of_one_folder_are_one_experiment(tiny_pair_folder: Path, tmp_path: Path) -> None:
    asked = replace(QUICK, seeds=1, pair=str(tiny_pair_folder))
    compare(replace(asked, strategies=("naive",)), out=tmp_path)
    ablate(replace(asked, ablations=("routing",)), out=tmp_path)
    kept = read_experiment(tmp_path / "experiment.toml")
    assert (kept.strategies, kept.ablations) == (("naive",), ("routing",))


def test_what_is_set_of_the_pair_is_set_before_it_loads(tiny_pair_folder: Path, tmp_path: Path, monkeypatch) -> None:
    loaded = []

    def load(name: str, **options: object) -> object:
        loaded.append(options)
        return load_pair(name, **options)

    monkeypatch.setattr(execution, "load_pair", load)
    execution._warm_pair.cache_clear()
    asked = replace(QUICK, strategies=("clts",), seeds=1, pair=str(tiny_pair_folder), generator={"guidance_scale": 1.5})
    compare(asked, out=tmp_path)
    assert loaded == [{"device": "cpu", "captioner": {}, "generator": {"guidance_scale": 1.5}}]
    document = json.loads((tmp_path / "results.json").read_text())
    assert "guidance_scale=1.5" in document["pair"]["identity"][1]
    assert document["settings"]["generator"] == {"guidance_scale": 1.5}


def test_a_run_depends_on_what_its_strategy_takes_notice_of() -> None:
    here = Conditions(["captioner", "generator"], {"torch": "2"})
    base = {name: QUICK.digest(name, here) for name in ROWS}

    def changed(conditions: Conditions = here, **options: object) -> set[str]:
        other = replace(QUICK, **options)
        return {name for name in ROWS if other.digest(name, conditions) != base[name]}

    with_pair = {name for name, row in ROWS.items() if row.needs_pair}
    assert {"clts", "er-bytes", "caption-replay"} < with_pair
    assert changed(seeds=9, strategies=("clts",), ablations=("routing",)) == set()
    assert changed(train_epochs=9) == changed(device="cuda") == set(ROWS)
    assert changed(routing="hard") == changed(generator={"steps": 3}) == with_pair
    assert changed(Conditions(["captioner", "another"], here.versions)) == with_pair
    assert changed(Conditions(here.pair, {"torch": "3"})) == set(ROWS)
    assert changed(Conditions(here.pair, here.versions, class_names=["tench"])) == with_pair
    below = {"backbone": "timm:resnet18"}
    one, other = (
        {name: replace(QUICK, **below).digest(name, Conditions([], {}, {"timm:resnet18": w})) for name in ROWS}
        for w in "xy"
    )
    assert not set(one.values()) & set(other.values()), "other weights under the same name"
    ewc = QUICK.hyperparameters | {"ewc": {"ewc_lambda": 3.0}}
    assert changed(hyperparameters=ewc) == {"ewc"}
    clts = QUICK.hyperparameters | {"clts": {"replay_size": 13}}
    assert changed(hyperparameters=clts) == {
        name for name in ROWS if "clts" in name or name.startswith(("name-only", "er-bytes", "er-63x", "er-total"))
    }


def test_what_is_derived_is_written_while_the_folder_is_locked(
    tiny_pair_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    from avalanche_clts.experiments import ablation, comparison, config

    def only_when_locked(path: Path, text: str) -> None:
        with pytest.raises(OSError, match="is in use by process"), only_one(tmp_path):
            pass
        written.append(path.name)
        write(path, text)

    written: list[str] = []
    write = comparison.write_text
    for module in (comparison, ablation, config):
        monkeypatch.setattr(module, "write_text", only_when_locked)
    asked = replace(QUICK, strategies=("naive",), ablations=("routing",), seeds=1, pair=str(tiny_pair_folder))
    compare(asked, out=tmp_path)
    ablate(asked, out=tmp_path)
    assert {"results.json", "results.csv", "experiment.toml", "ablations.json", "ablations.csv"} <= set(written)


def test_memory_that_is_unknown_is_not_nothing() -> None:
    known = {"captions": 0, "exemplars": 64, "heads": 0, "router": 0, "network": 36}
    scalars = ("average_accuracy", "forgetting", "backward_transfer", "router_accuracy", "oracle_accuracy")
    run = {
        "stream": "digits",
        "strategy": "x",
        "seed": 0,
        "memory_bytes": known,
        "seconds": dict.fromkeys(("total", "captioning", "generation", "router")),
        **dict.fromkeys((*scalars, "accuracy_matrix", "router_confusion", "class_accuracy")),
    }
    unknown = {**run, "memory_bytes": known | {"exemplars": None}}
    first, second = csv.DictReader(io.StringIO(to_csv([run, unknown])))
    assert (first["memory_bytes.exemplars"], second["memory_bytes.exemplars"]) == ("64", "")


def test_every_row_says_what_it_is() -> None:
    assert len({row.colour + row.line for row in ROWS.values()}) == len(ROWS)
    for name, row in ROWS.items():
        assert isinstance(row, Row)
        assert row.name == name
        assert row.description
        assert row.keeps
    assert ROWS["clts"].build is clts_row.build


def test_settings_of_a_run_without_a_pair_stay_with_it(tmp_path: Path) -> None:
    """A folder finds a run by everything that it depends on, and by nothing else."""
    from avalanche_clts.experiments.runs.execution import Task
    from avalanche_clts.streams.named import parse_stream

    folder = ResultsFolder(tmp_path, Conditions([], {}))
    stream = parse_stream("digits")
    tasks = [
        Task(e, "naive", 0, stream) for e in (Experiment(), Experiment(routing="hard"), Experiment(train_epochs=3))
    ]
    same, also, other = map(folder.file, tasks)
    assert same == also != other


def test_settings_can_be_given_on_the_command_line(tiny_pair_folder: Path, tmp_path: Path, monkeypatch) -> None:
    seen: list[Experiment] = []

    def run_quickly(experiment: Experiment, *arguments: Any, **options: Any) -> dict:
        seen.append(experiment)
        return runner.run(QUICK, *arguments, **options)

    monkeypatch.setattr(execution, "run", run_quickly)
    options = ["--epochs", "1", "--batch-size", "64", "--router", "cnn", "--set", "clts.replay_size=12"]
    options += ["clts.router_epochs=1", "clts.recombine=False", "--set", "ewc.ewc_lambda=0.5"]
    command = ["compare", "--seeds", "1", "--strategies", "clts", "--pair", str(tiny_pair_folder), *options]
    assert main([*command, "--out", str(tmp_path)]) == 0
    (asked,) = seen
    assert (asked.train_epochs, asked.train_mb_size, asked.router) == (1, 64, "cnn")
    own = experiment_of("digits").hyperparameters["clts"]
    assert asked.hyperparameters["clts"] == own | {"replay_size": 12, "router_epochs": 1, "recombine": False}
    assert asked.hyperparameters["ewc"] == experiment_of("digits").hyperparameters["ewc"] | {"ewc_lambda": 0.5}


def test_epochs_are_for_everyone() -> None:
    found = {"gdumb": {"train_epochs": 50}, "icarl": {"train_epochs": 20, "learning_rate": 1}}
    searched = replace(QUICK, hyperparameters=found)
    assert searched.with_given(train_mb_size=8).hyperparameters == found
    assert searched.with_given(train_epochs=1).hyperparameters == {"icarl": {"learning_rate": 1}}
    both = searched.with_given(train_epochs=1, hyperparameters={"gdumb": {"train_epochs": 3}})
    assert both.hyperparameters["gdumb"] == {"train_epochs": 3}


@pytest.mark.parametrize("stream", ["digits", "shapes", "split-cifar10"])
def test_every_stream_has_settings_for_strategies_that_need_some(stream: str) -> None:
    found = experiment_of(stream).hyperparameters
    assert "ewc_lambda" in found["ewc"]
    assert {"alpha", "temperature"} <= found["lwf"].keys()


def test_a_streams_template_leads_a_captioner_that_is_told_the_class(tiny_pair_folder: Path) -> None:
    def prefix(stream: str, **captioner: str) -> str | None:
        experiment = Experiment(stream=stream, pair=str(tiny_pair_folder), captioner=captioner)
        return experiment.load_pair().captioner.prefix

    assert prefix("split-mnist") is None  # a captioner that finds all the words
    own = Experiment(stream="split-mnist", pair=str(tiny_pair_folder))
    led = own.load_pair()
    led.captioner.prefix = "a photo of a {class_name}"
    assert own.told(led).captioner.prefix == "a handwritten digit {class_name}"
    assert own.told(led).captioner.caption(pictures(1), ["zero"])[0].startswith("a handwritten digit zero")
    assert Experiment(stream="shapes").told(led) is led
    assert prefix("digits", prefix="a {class_name}") == "a {class_name}"
