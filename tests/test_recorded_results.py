"""What README and docs say is what was recorded."""

from __future__ import annotations

import importlib.util
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avalanche_clts import cli, load_pair
from avalanche_clts.cli.experiments import asked_experiment
from avalanche_clts.experiments import Experiment, read_experiment
from avalanche_clts.experiments.config import experiment_of, read_fields, recorded_experiment, recorded_settings
from avalanche_clts.experiments.rows import ROWS
from avalanche_clts.experiments.tuning import TRIALS, VALIDATION
from avalanche_clts.pair.embedded import EMBEDDED
from avalanche_clts.pair.loading import pair_identity, pair_nbytes

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_and_docs_show_the_recorded_results() -> None:
    for path, text in load_script("readme").rendered().items():
        assert path.read_text() == text, f"{path.name} is not up to date; run: python benchmarks/readme.py"


def shown(asked: Experiment) -> Experiment:
    """With what its pair suggests; a pair that does not ship with the package is not there to be asked, and those that
    do suggest nothing that a benchmark might not take."""
    return asked.shown(load_pair(asked.pair) if asked.pair in EMBEDDED else None, None)


def chosen_settings(experiment: Experiment) -> dict[str, Any]:
    """Its settings, of hyper-parameters those of the strategies that it runs."""
    return experiment.settings() | {
        "hyperparameters": {name: experiment.options_of(name) for name in experiment.chosen}
    }


RECORDED = {file.parent.name: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*/results.json"))}
STREAMS = [name for name in RECORDED if any((RESULTS / name).glob("tuning-*.json"))]
OF_OWN_PAIRS = {"cifar10-half"}  # which do not ship with the package


def test_both_embedded_streams_are_recorded() -> None:
    assert {"digits", "shapes"} | OF_OWN_PAIRS <= set(STREAMS)


@pytest.mark.parametrize("name", sorted(set(STREAMS) - OF_OWN_PAIRS))
def test_recorded_results_are_of_the_pair_that_ships(name: str) -> None:
    assert RECORDED[name]["pair"]["name"] in EMBEDDED
    pair = load_pair(RECORDED[name]["pair"]["name"])
    assert RECORDED[name]["pair"]["identity"] == pair_identity(pair)
    assert RECORDED[name]["pair"]["bytes"] == pair_nbytes(pair)


@pytest.mark.parametrize("name", STREAMS)
def test_recorded_runs_are_of_the_pair_and_stream_that_were_searched(name: str) -> None:
    (search_file,) = (RESULTS / name).glob("tuning-*.json")
    search = json.loads(search_file.read_text())
    pairs = [found["conditions"]["pair"] for found in search.values() if found["conditions"].get("pair")]
    assert pairs
    assert all(pair == RECORDED[name]["pair"]["identity"] for pair in pairs)
    assert {t["results"]["stream"] for found in search.values() for t in found["trials"]} == {
        recorded_experiment(RECORDED[name]).stream
    }


@pytest.mark.parametrize("name", sorted(RECORDED.keys() - set(STREAMS)))
def test_what_was_not_searched_is_what_its_command_asks_for(name: str) -> None:
    """With the hyper-parameters of a search, but for what the command says."""
    document = RECORDED[name]
    asked = asked_experiment(cli._parsers()[0].parse_args(shlex.split(document["command"])[1:]))
    assert chosen_settings(recorded_experiment(document)) == chosen_settings(shown(asked))


@pytest.mark.parametrize("name", [*load_script("readme").NAMES, *load_script("readme").ON_FEATURES])
def test_definitions_are_of_what_is_recorded(name: str) -> None:
    asked = read_experiment(ROOT / f"benchmarks/experiments/{name}.toml")
    recorded = recorded_experiment(RECORDED[name])
    for file in (RESULTS / name).glob("tuning-*.json"):
        found = {strategy: search["best"] for strategy, search in json.loads(file.read_text()).items()}
        asked = replace(asked, hyperparameters=asked.hyperparameters | found)
    assert chosen_settings(recorded) == chosen_settings(shown(asked))
    assert (recorded.stream, recorded.seeds, recorded.pair) == (asked.stream, asked.seeds, asked.pair)
    assert (name in STREAMS) == asked.tune


FINISHED = {file.parent.name for name in ("results", "ablations") for file in RESULTS.glob(f"*/{name}.json")}


@pytest.mark.parametrize("folder", sorted(FINISHED))
def test_folders_of_results_hold_the_experiment_that_makes_them_again(folder: str) -> None:
    kept = read_experiment(RESULTS / folder / "experiment.toml")
    if (RESULTS / folder / "results.json").exists():
        assert replace(kept, ablations=None) == recorded_experiment(RECORDED[folder])
    if (RESULTS / folder / "ablations.json").exists():
        document = json.loads((RESULTS / folder / "ablations.json").read_text())
        of_clts = [replace(e, strategies=("clts",)) for e in (kept, Experiment(**recorded_settings(document)))]
        assert chosen_settings(of_clts[0]) == chosen_settings(of_clts[1])
        assert set(kept.ablations) <= set(document["ablations"])
        assert (kept.stream, kept.seeds) == (document["stream"], document["seeds"])


@pytest.mark.parametrize("folder", sorted(FINISHED))
def test_finished_work_can_be_reported(folder: str, tmp_path: Path, capsys) -> None:
    assert cli.main(["report", str(RESULTS / folder), "--out", str(tmp_path)]) == 0
    assert "<svg" in (tmp_path / "report.html").read_text()


def test_hyperparameters_are_those_of_the_recorded_searches() -> None:
    chosen = load_script("hyperparameters").chosen()
    assert {"digits", "shapes"} == chosen.keys()
    for stream, fields in chosen.items():
        file = ROOT / f"avalanche_clts/experiments/defaults/{stream}.toml"
        assert fields.items() <= read_fields(file).items()
        assert experiment_of(stream).hyperparameters == fields["hyperparameters"]


@pytest.mark.parametrize("stream", STREAMS)
def test_recorded_runs_have_the_searchs_outcome_on_an_unreported_seed(stream: str) -> None:
    folder = ROOT / "benchmarks/results" / stream
    (search_file,) = folder.glob("tuning-*.json")
    search = json.loads(search_file.read_text())
    recorded = json.loads((folder / "results.json").read_text())
    found_best = {strategy: found["best"] for strategy, found in search.items()}
    assert found_best.items() <= recorded_settings(recorded)["hyperparameters"].items()
    assert {run["strategy"] for run in recorded["runs"] if ROWS[run["strategy"]].searched(stream)} <= found_best.keys()
    reported = {run["seed"] for run in recorded["runs"]}
    for found in search.values():
        scores = {json.dumps(t["options"]): t["results"]["average_accuracy"] for t in found["trials"]}
        assert found["conditions"]["settings"]["validation"] == VALIDATION
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
