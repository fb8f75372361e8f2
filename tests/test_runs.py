"""Runs: what they share, what they go on from, how hyper-parameters are searched with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from avalanche_clts import CLTS
from avalanche_clts.experiments import ablate, compare, tuning
from avalanche_clts.experiments.experiment import Conditions
from avalanche_clts.experiments.runs import execution
from avalanche_clts.experiments.runs.execution import Task
from avalanche_clts.experiments.runs.folder import ResultsFolder
from avalanche_clts.pair.loading import load_pair, pair_identity
from avalanche_clts.streams.named import parse_stream
from tests.test_compare import QUICK


def test_stored_images_do_not_go_on_from_a_checkpoint(tiny_pair_folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Their checkpoint holds the numbers of images and not the images: an interrupted run must begin anew."""

    def stop_at_the_third(*arguments, **options):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(evaluate(*arguments, **options))
        return calls[-1]

    asked = replace(QUICK, memory="images", strategies=("clts",), seeds=1, pair=str(tiny_pair_folder))
    calls: list[object] = []
    evaluate = CLTS.eval
    monkeypatch.setattr(CLTS, "eval", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        compare(asked, out=tmp_path / "stopped")
    monkeypatch.undo()
    stopped, whole = (compare(asked, out=tmp_path / name)[0] for name in ("stopped", "whole"))
    assert len(calls) == 2
    assert stopped["accuracy_matrix"] == whole["accuracy_matrix"]


def test_seconds_of_runs_that_share_images_are_not_reported(
    tiny_pair_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    asked = replace(QUICK, seeds=1, pair=str(tiny_pair_folder), strategies=("clts",), ablations=("routing",))
    ablate(asked, out=tmp_path)
    monkeypatch.setattr(ResultsFolder, "save", spied := Spy(ResultsFolder.save))
    compare(asked, out=tmp_path)
    assert [task.strategy for task in spied.tasks] == ["clts"], "a run that is not timed was taken for one that is"
    assert list((tmp_path / "checkpoints").iterdir()), "the trained strategy is there for the audit"
    compare(asked, out=tmp_path)
    ablate(asked, out=tmp_path)
    assert len(spied.tasks) == 1


class Spy:
    """A method that remembers the tasks it is called with."""

    def __init__(self, method) -> None:
        self.method = method
        self.tasks: list[Task] = []

    def __get__(self, folder, owner):
        def spied(task: Task, results: dict) -> None:
            self.tasks.append(task)
            self.method(folder, task, results)

        return spied


def test_search_takes_the_best_of_as_many_trials_for_everyone(
    tiny_pair_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    for grid in [*tuning.grids(parse_stream("shapes")).values(), *tuning.grids(parse_stream("digits")).values()]:
        trials = 1
        for values in grid.values():
            trials *= len(values)
        assert trials == tuning.TRIALS
    monkeypatch.setattr(tuning, "TRIALS", 2)
    grids = {"lwf": {"alpha": [0.5, 1.0], "temperature": [2.0]}, "er-bytes": {"batch_size_mem": [8, 16]}}
    grids["clts"] = {"replay_size": [12], "router_epochs": [1, 2]}
    monkeypatch.setattr(tuning, "grids", lambda stream: grids)
    stream = parse_stream("digits")
    folder = ResultsFolder(tmp_path, Conditions(pair_identity(load_pair(tiny_pair_folder)), {}))

    def search(*strategies: str) -> dict:
        asked = replace(QUICK, strategies=strategies, pair=str(tiny_pair_folder))
        return tuning.tune(asked, stream=stream, folder=folder)

    chosen = search("clts", "er-bytes", "lwf", "naive")
    document = json.loads((tmp_path / "tuning-digits.json").read_text())
    assert document.keys() == chosen.keys() == grids.keys()
    for strategy, found in document.items():
        scores = {json.dumps(t["options"]): t["results"]["average_accuracy"] for t in found["trials"]}
        assert len(scores) == 2
        assert found["best"] == chosen[strategy]
        assert scores[json.dumps(found["best"])] == max(scores.values())
        assert {t["results"]["seed"] for t in found["trials"]} == {tuning.TUNING_SEED}
    assert "pair" in document["er-bytes"]["conditions"]
    assert "pair" not in document["lwf"]["conditions"]
    monkeypatch.setattr(execution, "run", lambda *a, **k: pytest.fail("a finished trial was run again"))
    assert search("clts", "er-bytes", "lwf") == chosen
    assert search("lwf") == {"lwf": chosen["lwf"]}
    assert json.loads((tmp_path / "tuning-digits.json").read_text()) == document


def test_several_processes_give_the_same_runs(tiny_pair_folder: Path, tmp_path: Path) -> None:
    def figures(out: Path, jobs: int) -> list[tuple]:
        asked = replace(QUICK, strategies=("naive", "er-bytes"), seeds=1, pair=str(tiny_pair_folder))
        runs = compare(asked, out=out, jobs=jobs)
        return [(run["strategy"], run["accuracy_matrix"]) for run in runs]

    assert figures(tmp_path / "two", 2) == figures(tmp_path / "one", 1)
