"""What README and docs say is what was recorded."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from avalanche_clts import cli
from avalanche_clts.experiments.tuning import TRIALS

ROOT = Path(__file__).parents[1]


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_and_docs_show_the_recorded_results() -> None:
    for path, text in load_script("readme").rendered().items():
        assert path.read_text() == text, f"{path.name} is not up to date; run: python benchmarks/readme.py"


RECORDED = {
    file.parent.name: json.loads(file.read_text())
    for file in sorted((ROOT / "benchmarks/results").glob("*/results.json"))
}
STREAMS = [name for name, document in RECORDED.items() if "--tune" in document["command"]]


def test_both_embedded_streams_are_recorded() -> None:
    assert {"digits", "shapes"} <= set(STREAMS)


@pytest.mark.parametrize("name", sorted(RECORDED.keys() - set(STREAMS)))
def test_what_was_not_searched_has_the_hyperparameters_of_a_search(name: str) -> None:
    document = RECORDED[name]
    told = cli._parser().parse_args(shlex.split(document["command"])[1:])
    searches = json.loads((ROOT / "avalanche_clts/compare/hyperparameters.json").read_text()).values()
    assert document["settings"]["tuned"] in [as_told(search, told) for search in searches]


def as_told(search: dict[str, dict[str, Any]], told: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What a search found, with what the command says of hyper-parameters and epochs in its place, and nothing else."""
    if told.epochs is not None:
        search = {name: {k: v for k, v in own.items() if k != "train_epochs"} for name, own in search.items()}
    told_of = cli._hyperparameters(told.set)
    return search | {name: search.get(name, {}) | options for name, options in told_of.items()}


def test_hyperparameters_are_those_of_the_recorded_searches() -> None:
    chosen = load_script("hyperparameters").chosen()
    assert json.loads((ROOT / "avalanche_clts/compare/hyperparameters.json").read_text()) == chosen
    assert "digits" in chosen


@pytest.mark.parametrize("stream", STREAMS)
def test_recorded_runs_have_the_searchs_outcome_on_an_unreported_seed(stream: str) -> None:
    folder = ROOT / "benchmarks/results" / stream
    search = json.loads((folder / f"tuning-{stream}.json").read_text())
    recorded = json.loads((folder / "results.json").read_text())
    assert recorded["settings"]["tuned"] == {strategy: found["best"] for strategy, found in search.items()}
    reported = {run["seed"] for run in recorded["runs"]}
    for found in search.values():
        scores = {json.dumps(t["options"]): t["results"]["average_accuracy"] for t in found["trials"]}
        assert len(scores) == TRIALS
        assert scores[json.dumps(found["best"])] == max(scores.values())
        assert not {t["results"]["seed"] for t in found["trials"]} & reported


def test_recorded_pair_reaches_its_marks() -> None:
    quality = json.loads((ROOT / "benchmarks/results/embedded-pair/quality.json").read_text())
    assert quality["digits"]["captioner_names_the_class"] >= 0.95
    for domain in ("digits", "shapes"):
        assert quality[domain]["captioner_names_the_class"] >= 0.95
        assert quality[domain]["generated_recognised_by_real_classifier"] >= 0.93
        assert quality[domain]["real_recognised_by_generated_classifier"] >= 0.94


@pytest.mark.parametrize(("figure", "least"), [("average_accuracy", 0.93), ("router_accuracy", 0.95)])
def test_recorded_clts_reaches_its_marks(figure: str, least: float) -> None:
    runs = json.loads((ROOT / "benchmarks/results/digits/results.json").read_text())["runs"]
    clts = [run[figure] for run in runs if run["strategy"] == "clts"]
    assert len(clts) >= 3
    assert sum(clts) / len(clts) >= least
