"""What varies in an ablation varies, and nothing is computed twice; the search for hyper-parameters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avalanche_clts import Pair
from avalanche_clts.cli import main
from avalanche_clts.compare import Settings, compare, execution, tuning
from avalanche_clts.compare.ablation import ABLATIONS, ablate
from avalanche_clts.compare.memory_curve import areas
from avalanche_clts.compare.results import merged
from avalanche_clts.compare.stored_images import stored_images
from avalanche_clts.compare.table import format_ablations
from avalanche_clts.compare.views import Augmented, Autoencoded
from avalanche_clts.digits import stream_digits
from avalanche_clts.named_streams import parse_stream
from tests.test_compare import QUICK

# One of each kind: those left out change a number that another one changes too.
SOME = [name for name in ABLATIONS if name not in ("replay-size", "guidance", "caption-length")]


@pytest.fixture(scope="module")
def ablated(tiny_pair_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("ablations")
    document = ablate(stream="digits", only=SOME, seeds=1, out=out, pair=str(tiny_pair_folder), settings=QUICK)
    return out, document


def test_every_ablation_answers_with_every_variant(ablated: tuple[Path, dict]) -> None:
    out, document = ablated
    assert json.loads((out / "ablations.json").read_text()) == json.loads(json.dumps(document))
    assert list(document["ablations"]) == SOME
    for name, ablation in document["ablations"].items():
        labels = [variant["label"] for variant in ablation["variants"]]
        expected = [variant.label for variant in ABLATIONS[name].variants]
        # Ten classes divide into 2, 5 and 10 experiences alone.
        assert labels == (["2", "5", "10"] if name == "experiences" else expected)
        assert all(len(variant["runs"]) == 1 for variant in ablation["variants"])
    text = format_ablations(document)
    assert all(ABLATIONS[name].title in text for name in SOME)


def test_variants_differ_in_what_they_vary(ablated: tuple[Path, dict]) -> None:
    def runs(name: str) -> dict[str, dict]:
        return {v["label"]: v["runs"][0] for v in ablated[1]["ablations"][name]["variants"]}

    captions = [run["memory_bytes"]["captions"] for run in runs("captions").values()]
    assert captions == sorted(captions)
    assert captions[-1] > 5 * captions[0]
    streams = {label: run["stream"] for label, run in runs("experiences").items()}
    assert streams == {label: f"digits:experiences={label}" for label in ("2", "5", "10")}
    evidence = runs("evidence")
    assert evidence["the heads' own confidence (no generator at all)"]["seconds"]["generation"] == 0
    assert evidence["the router"]["seconds"]["generation"] > 0
    assert runs("router-data")["stored real images (the ceiling)"]["seconds"]["generation"] < 0.1


def test_finished_variants_are_not_computed_again(ablated: tuple[Path, dict], tiny_pair_folder, monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise AssertionError("a finished run was computed again")

    monkeypatch.setattr(execution, "run", refuse)
    out, document = ablated
    again = ablate(stream="digits", only=SOME, seeds=1, out=out, pair=str(tiny_pair_folder), settings=QUICK)
    assert json.loads(json.dumps(again["ablations"])) == json.loads(json.dumps(document["ablations"]))


def test_unknown_ablation_is_refused(capsys) -> None:
    assert main(["ablate", "--only", "luck"]) == 2
    assert "only has luck; known ablations: router-data, routing" in capsys.readouterr().err


def test_stored_images_come_back_as_they_were() -> None:
    images = stream_digits()[0].images[:3]
    pair = stored_images()
    captions = pair.captioner.caption(images)
    again = pair.generator.generate([captions[2], captions[0]], [0, 0])
    assert [image.convert("L").tobytes() for image in again] == [images[2].tobytes(), images[0].tobytes()]


def test_views_keep_shape_and_range(tiny_pair: Pair) -> None:
    x = torch.rand(5, 1, 8, 8)
    restored = Autoencoded(tiny_pair)(x)
    assert restored.shape == x.shape
    assert 0 <= restored.min() <= restored.max() <= 1
    assert not list(Autoencoded(tiny_pair).parameters()), "the pair's weights are neither trained nor saved"
    augmented = Augmented(8)
    assert augmented(x).shape == x.shape
    assert not torch.equal(augmented(x), x)
    assert torch.equal(augmented.eval()(x), x)


# The search


def test_search_takes_the_best_of_as_many_trials_for_everyone(
    tiny_pair_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    for grid in [*tuning.GRIDS.values(), *tuning.grids(parse_stream("digits")).values()]:
        trials = 1
        for values in grid.values():
            trials *= len(values)
        assert trials == tuning.TRIALS
    monkeypatch.setattr(tuning, "TRIALS", 2)
    grids = {"lwf": {"alpha": [0.5, 1.0], "temperature": [2.0]}, "er-bytes": {"batch_size_mem": [8, 16]}}
    grids["clts"] = {"replay_size": [12], "router_epochs": [1, 2]}
    monkeypatch.setattr(tuning, "grids", lambda stream: grids)
    arguments = {
        "settings": QUICK,
        "pair": str(tiny_pair_folder),
        "device": "cpu",
        "out": tmp_path,
    }
    chosen = tuning.tune(parse_stream("digits"), ["clts", "er-bytes", "lwf", "naive"], **arguments)
    document = json.loads((tmp_path / "tuning-digits.json").read_text())
    assert document["best"] == chosen
    for strategy, options in chosen.items():
        scores = {
            json.dumps(t["options"]): t["results"]["average_accuracy"]
            for t in document["trials"]
            if t["strategy"] == strategy
        }
        assert len(scores) == 2
        assert scores[json.dumps(options)] == max(scores.values())
    assert {trial["results"]["seed"] for trial in document["trials"]} == {tuning.TUNING_SEED}
    monkeypatch.setattr(execution, "run", lambda *a, **k: pytest.fail("a finished trial was run again"))
    assert tuning.tune(parse_stream("digits"), ["clts", "er-bytes", "lwf"], **arguments) == chosen


def test_several_processes_give_the_same_runs(tiny_pair_folder: Path, tmp_path: Path) -> None:
    def figures(out: Path, jobs: int) -> list[tuple]:
        runs = compare(
            strategies=["naive", "er-bytes"], seeds=1, out=out, pair=str(tiny_pair_folder), settings=QUICK, jobs=jobs
        )
        return [(run["strategy"], run["accuracy_matrix"]) for run in runs]

    assert figures(tmp_path / "two", 2) == figures(tmp_path / "one", 1)


# Memory and accuracy, and reports of several folders


def made_run(strategy: str, nbytes: int, accuracy: float, seed: int = 0) -> dict:
    memory = {"captions": 0, "exemplars": nbytes, "heads": 0, "router": 0, "network": 0}
    return {
        "stream": "digits",
        "strategy": strategy,
        "seed": seed,
        "memory_bytes": memory,
        "average_accuracy": accuracy,
        "accuracy_matrix": [[accuracy]],
    }


def test_area_is_accuracy_over_the_logarithm_of_the_budget() -> None:
    runs = [
        made_run("er-bytes", 100, 0.5),
        made_run("er-63x", 1000, 0.4),  # more memory never counts as less accuracy
        made_run("er-total", 10_000, 0.9),
        made_run("clts", 1000, 0.8),
        made_run("joint", 10, 1.0),
    ]
    found = areas(runs)
    assert found == {"er": pytest.approx(0.5), "clts": pytest.approx(0.4)}
    assert areas([made_run("clts", 1000, 0.8)]) == {}


def test_runs_of_several_folders_are_shown_together() -> None:
    def document(*runs: dict) -> dict:
        return {"runs": list(runs), "arguments": {"stream": "digits"}, "command": "clts compare"}

    both = merged([document(made_run("clts", 1, 0.5)), document(made_run("naive", 1, 0.1))], ["a", "b"])
    assert [run["strategy"] for run in both["runs"]] == ["clts", "naive"]
    with pytest.raises(ValueError, match="a and b both hold clts on digits with seed 0, with different outcomes"):
        merged([document(made_run("clts", 1, 0.5)), document(made_run("clts", 1, 0.6))], ["a", "b"])


def test_settings_that_no_pair_has_are_refused(tiny_pair_folder: Path, tmp_path: Path) -> None:
    settings = replace(QUICK, generator={"colour": "red"})
    assert isinstance(settings, Settings)
    with pytest.raises(ValueError, match="DiffusionGenerator has no attribute 'colour' to set"):
        compare(strategies=["clts"], seeds=1, out=tmp_path, pair=str(tiny_pair_folder), settings=settings)
