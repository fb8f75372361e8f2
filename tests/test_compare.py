"""The head-to-head: what it writes, what it does not compute twice, and what it refuses."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from avalanche.benchmarks import ni_benchmark
from avalanche.models.slim_resnet18 import ResNet
from PIL import Image
from torch import nn
from torchvision.transforms import ToTensor

from avalanche_clts import Pair
from avalanche_clts.cli import main
from avalanche_clts.experiments import Experiment, compare, experiment
from avalanche_clts.experiments.page.table import format_markdown, format_table, human_bytes
from avalanche_clts.experiments.runs import execution
from avalanche_clts.experiments.runs.measures import summarize_matrix
from avalanche_clts.experiments.runs.runner import build
from avalanche_clts.streams.benchmarks import ImageDataset
from avalanche_clts.streams.embedded_digits import CLASS_NAMES, stream_digits
from avalanche_clts.streams.named import STREAMS, parse_stream
from tests.image_folders import wordnet
from tests.test_report import assert_nothing_from_outside

COMPARED = Experiment().chosen
QUICK = Experiment(
    train_epochs=1,
    learning_rate=3e-3,
    captions_per_class=3,
    hyperparameters={
        "clts": {"replay_size": 12, "router_epochs": 1},
        "ewc": {"ewc_lambda": 1.0},
        "lwf": {"alpha": 1.0, "temperature": 2.0},
    },
)


@pytest.fixture(scope="module")
def finished(tiny_pair_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small comparison of all strategies with two seeds."""
    out = tmp_path_factory.mktemp("comparison")
    compare(replace(QUICK, seeds=2, pair=str(tiny_pair_folder)), out=out, command="clts compare")
    return out


def runs_of(folder: Path) -> list[dict]:
    return json.loads((folder / "results.json").read_text())["runs"]


def test_every_strategy_and_seed_is_recorded_with_the_fixed_keys(finished: Path) -> None:
    document = json.loads((finished / "results.json").read_text())
    assert {"runs", "arguments", "versions"} <= document.keys()
    assert {(run["strategy"], run["seed"]) for run in document["runs"]} == {(s, k) for s in COMPARED for k in (0, 1)}
    for run in document["runs"]:
        assert {
            "stream",
            "strategy",
            "seed",
            "accuracy_matrix",
            "average_accuracy",
            "forgetting",
            "backward_transfer",
            "router_accuracy",
            "oracle_accuracy",
            "router_confusion",
            "class_accuracy",
            "memory_bytes",
            "pair_fit",
            "seconds",
        } == run.keys()
        assert run["memory_bytes"].keys() == {"captions", "exemplars", "heads", "router", "network"}
        assert run["seconds"].keys() == {"total", "captioning", "generation", "router", "evaluation"}
        assert run["seconds"]["evaluation"] > 0
        assert (run["pair_fit"] is not None) == (run["strategy"] in ("clts", "clts+captioner", "name-only"))
        for fit in run["pair_fit"] or []:
            assert fit.keys() == {"captions_named", "regenerated_recognised", "real_recognised"}
            assert fit["real_recognised"] is not None
        rows = 1 if run["strategy"] == "joint" else 5
        if run["router_confusion"] is not None:
            assert [sum(row) for row in run["router_confusion"]] == pytest.approx([1.0] * 5)
        assert [len(row) for row in run["accuracy_matrix"]] == [5] * rows
        assert run["average_accuracy"] == pytest.approx(sum(run["accuracy_matrix"][-1]) / 5)
        routed = ("clts", "clts+captioner", "name-only", "expert-gate", "heads")
        assert (run["router_accuracy"] is not None) == (run["strategy"] in routed)
        generating = ("clts", "clts+captioner", "name-only", "caption-replay")
        assert (run["seconds"]["generation"] is not None) == (run["strategy"] in generating)


def test_replay_budgets_follow_the_captions(finished: Path) -> None:
    runs = {run["strategy"]: run["memory_bytes"] for run in runs_of(finished) if run["seed"] == 0}
    clts = runs["clts"]
    assert clts["captions"] > 0
    assert runs["er-count"]["exemplars"] == 30 * 64
    assert runs["er-bytes"]["exemplars"] == clts["captions"] // 64 * 64
    assert runs["er-63x"]["exemplars"] == min(63 * clts["captions"] // 64, 798) * 64
    assert runs["er-total"]["network"] + runs["er-total"]["exemplars"] <= sum(clts.values())
    assert runs["caption-replay"]["exemplars"] == runs["naive"]["exemplars"] == 0
    assert runs["naive"]["network"] * 5 == clts["heads"]


def test_csv_says_the_same(finished: Path) -> None:
    rows = list(csv.DictReader((finished / "results.csv").open()))
    for row, run in zip(rows, runs_of(finished), strict=True):
        assert row["strategy"] == run["strategy"]
        assert float(row["average_accuracy"]) == run["average_accuracy"]
        assert int(row["memory_bytes.heads"]) == run["memory_bytes"]["heads"]
        for matrix in ("accuracy_matrix", "router_confusion", "class_accuracy"):
            assert json.loads(row[matrix]) == run[matrix]
        assert json.loads(row["pair_fit"]) == run["pair_fit"]


def test_report_is_one_self_contained_page(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    routed = [run for run in runs_of(finished) if run["router_confusion"] is not None and run["seed"] == 0]
    assert page.count("<svg") == 2 + len(COMPARED) + len(routed)  # two figures, a matrix for each, and the routers
    assert page.count('alt="real"') == 10
    assert all(name in page for name in COMPARED)
    assert "64 bytes" in page
    assert_nothing_from_outside(page)


def test_tensorboard_has_avalanches_own_names(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for strategy in COMPARED:
        folder = finished / "tensorboard" / "digits" / f"{strategy}-seed0"
        events = EventAccumulator(str(folder))
        events.Reload()
        assert "Top1_Acc_Stream/eval_phase/test_stream/Task000" in events.Tags()["scalars"]


def test_finished_runs_are_not_computed_again(finished: Path, tiny_pair_folder: Path, monkeypatch) -> None:
    before = runs_of(finished)

    def refuse(*args, **kwargs):
        raise AssertionError("a finished run was computed again")

    monkeypatch.setattr(execution, "run", refuse)
    again = compare(replace(QUICK, seeds=2, pair=str(tiny_pair_folder)), out=finished)
    assert json.loads(json.dumps(again)) == before


def test_runs_under_other_settings_are_not_mistaken_for_finished(
    finished: Path, tiny_pair_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    finished = shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.setattr(execution, "run", lambda *a, **k: (_ for _ in ()).throw(InterruptedError))
    with pytest.raises(InterruptedError):
        compare(Experiment(strategies=("naive",), seeds=1, pair=str(tiny_pair_folder)), out=finished)


def test_runs_of_a_folder_whose_images_changed_are_not_mistaken_for_finished(tmp_path: Path, monkeypatch) -> None:
    for name in ("red", "green"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (8, 8), (25 * i, 0, 1) if name == "red" else (0, 25 * i, 2)).save(
                tmp_path / "images" / name / f"{i}.png"
            )
    stream = f"folder:{tmp_path / 'images'},experiences=2"
    again = partial(compare, replace(QUICK, stream=stream, strategies=("naive",), seeds=1), out=tmp_path / "out")
    first = again()
    monkeypatch.setattr(execution, "run", lambda *a, **k: (_ for _ in ()).throw(InterruptedError))
    assert json.loads(json.dumps(again())) == json.loads(json.dumps(first))
    (tmp_path / "images" / "red" / "3.png").unlink()
    with pytest.raises(InterruptedError):
        again()


def test_what_classes_are_called_in_prompts_is_part_of_a_run(tiny_pair_folder: Path, tmp_path: Path) -> None:
    """WordNet's ids in words come from a file beside the images, which a user is told to put there."""
    wordnet(tmp_path / "photos")
    stream = f"folder:{tmp_path / 'photos'},experiences=3,size=16"
    asked = replace(QUICK, stream=stream, seeds=1, strategies=("naive", "captioner"), pair=str(tiny_pair_folder))

    def kept() -> dict[str, int]:
        compare(asked, out=tmp_path / "out")
        return Counter(file.name.split("-seed")[0].rpartition("-")[2] for file in tmp_path.glob("out/runs/*.json"))

    assert kept() == {"naive": 1, "captioner": 1}
    words = tmp_path / "photos" / "words.txt"
    words.write_text(words.read_text().replace("goldfish", "carp"))
    assert kept() == {"naive": 1, "captioner": 2}
    (samples,) = (tmp_path / "out").glob("samples-*.json")
    assert '"carp"' in samples.read_text()
    assert "goldfish" not in samples.read_text()


def test_the_report_shows_no_image_that_was_taken_away(tiny_pair_folder: Path, tmp_path: Path) -> None:
    wordnet(tmp_path / "photos")
    stream = f"folder:{tmp_path / 'photos'},experiences=3,size=16"
    asked = replace(QUICK, stream=stream, seeds=1, strategies=("naive",), pair=str(tiny_pair_folder))
    shown = []
    for _ in range(2):
        compare(asked, out=tmp_path / "out")
        (samples,) = (tmp_path / "out").glob("samples-*.json")
        shown.append(json.loads(samples.read_text())["samples"])
        for folder in (tmp_path / "photos" / "train").iterdir():
            min(folder.iterdir()).unlink()
    assert not {s["real"] for s in shown[0]} & {s["real"] for s in shown[1]}


def test_runs_of_a_pair_that_samples_otherwise_are_not_mistaken_for_finished(
    finished: Path, tiny_pair_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    finished = shutil.copytree(finished, tmp_path / "copy")
    other = shutil.copytree(tiny_pair_folder, tmp_path / "pair")
    arguments = json.loads((other / "pair.json").read_text())
    arguments["generator"]["guidance_scale"] = 1.5
    (other / "pair.json").write_text(json.dumps(arguments))
    monkeypatch.setattr(execution, "run", lambda *a, **k: (_ for _ in ()).throw(InterruptedError))
    with pytest.raises(InterruptedError):
        compare(replace(QUICK, strategies=("clts",), seeds=1, pair=str(other)), out=finished)
    with pytest.raises(InterruptedError):
        compare(replace(QUICK, strategies=("er-bytes",), seeds=1, pair=str(other)), out=finished)
    # The pair's own arguments in another place are those of another pair.
    overridden = replace(QUICK, pair=str(tiny_pair_folder), generator={"guidance_scale": 1.5})
    with pytest.raises(InterruptedError):
        compare(replace(overridden, strategies=("clts",), seeds=1), out=finished)
    # What has no use for the pair, or for what CLTS was tuned to, stays finished.
    retuned = QUICK.with_given(hyperparameters={"clts": {"replay_size": 24}}, routing="hard", pair=str(other))
    assert compare(replace(retuned, strategies=("naive", "lwf"), seeds=1), out=finished)


def test_synaptic_intelligence_holds_weights_back(finished: Path, tiny_pair_folder: Path, tmp_path: Path) -> None:
    strong = replace(QUICK, hyperparameters={"si": {"si_lambda": 1e6}}, pair=str(tiny_pair_folder))
    (run,) = compare(replace(strong, strategies=("si",), seeds=1), out=tmp_path)
    (naive,) = (r for r in runs_of(finished) if (r["strategy"], r["seed"]) == ("naive", 0))
    assert run["accuracy_matrix"][0] == naive["accuracy_matrix"][0], "nothing is held back in the first experience"
    assert run["accuracy_matrix"] != naive["accuracy_matrix"]


def test_same_command_same_results(finished: Path, tiny_pair_folder: Path, tmp_path: Path) -> None:
    again = compare(replace(QUICK, strategies=("clts", "naive"), seeds=1, pair=str(tiny_pair_folder)), out=tmp_path)
    before = {run["strategy"]: run for run in runs_of(finished) if run["seed"] == 0}
    for run in again:
        assert {k: v for k, v in run.items() if k != "seconds"} == {
            k: v for k, v in before[run["strategy"]].items() if k != "seconds"
        }


def test_budget_of_clts_brings_clts_along(tiny_pair_folder: Path, tmp_path: Path) -> None:
    runs = compare(replace(QUICK, strategies=("er-bytes",), seeds=1, pair=str(tiny_pair_folder)), out=tmp_path)
    assert {run["strategy"] for run in runs} == {"clts", "er-bytes"}


def test_forgetting_and_backward_transfer_follow_their_definitions() -> None:
    matrix = [[0.9, 0.1, 0.0], [0.95, 0.8, 0.0], [0.5, 0.6, 0.7]]
    figures = summarize_matrix(matrix)
    assert figures["average_accuracy"] == pytest.approx(0.6)
    assert figures["forgetting"] == pytest.approx(((0.95 - 0.5) + (0.8 - 0.6)) / 2)
    assert figures["backward_transfer"] == pytest.approx(((0.5 - 0.9) + (0.6 - 0.8)) / 2)
    assert summarize_matrix([[0.5, 0.7]]) == {
        "average_accuracy": pytest.approx(0.6),
        "forgetting": None,
        "backward_transfer": None,
    }


def test_table_is_sorted_by_accuracy_and_shows_spread(finished: Path) -> None:
    lines = format_table(runs_of(finished)).splitlines()
    assert len(lines) == 2 + len(COMPARED)
    assert all(len(line) == len(lines[0]) for line in lines)
    assert "±" in lines[2]
    accuracies = [float(line.split()[1]) for line in lines[2:]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert format_markdown(runs_of(finished)).count("\n") == 1 + len(COMPARED)


def test_bytes_are_readable() -> None:
    assert [human_bytes(n) for n in (0, 999, 1500, 2_500_000, 3e9)] == ["-", "999 B", "1.5 kB", "2.5 MB", "3.0 GB"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--stream", "letters"], r"stream is 'letters'; known streams: digits"),
        (
            ["compare", "--strategies", "clts", "gem"],
            r"strategies has gem; known strategies: joint, cumulative, clts, .*naive",
        ),
        (["compare", "--seeds", "0"], r"seeds is 0"),
        (["compare", "--batch-size", "0"], r"--batch-size is 0"),
        (["compare", "--set", "clts.replay_size"], r"--set is given 'clts.replay_size'; write STRATEGY.OPTION=VALUE"),
        (["compare", "--set", "gem.size=3"], r"--set has gem; known strategies: joint"),
        (["compare", "--set", "ewc.ewc_lambda=much"], r"ewc.ewc_lambda of 'much'; it must be a number above 0"),
        (
            ["compare", "--tune", "--set", "ewc.ewc_lambda=3"],
            r"--set has ewc, which the search would overrule",
        ),
        (["compare", "--set", "ewc.size=3"], r"--set has ewc.size; the hyper-parameters of ewc: ewc_lambda"),
        (
            ["compare", "--backbone", "captioner", "--router", "cnn"],
            r"router is 'cnn', but with backbone 'captioner' it stands on that too; known networks there: linear, mlp$",
        ),
        (
            ["compare", "--set", "clts.replay_size=1e3"],
            r"clts.replay_size of 1000.0; it must be a whole number above 0",
        ),
        (["compare", "--set", "clts.recombine=1"], r"clts.recombine of 1; it must be one of True, False"),
        (
            ["compare", "--set", "clts.router_data=none"],
            r"clts.router_data of 'none'; it must be one of synthetic, mixed",
        ),
        (["compare", "--config", "nowhere.toml"], r"nowhere.toml is not there; give the file of an experiment"),
        (
            ["compare", "--strategies", "naive", "--network", "slim-resnet18"],
            r"network is 'slim-resnet18', which cannot take images of 8x8 pixels and 1 channels; choose another",
        ),
        (["compare", "--router", "vgg"], r"router is 'vgg'; known networks: small-cnn, .*captioner, .*timm:NAME"),
        (["compare", "--device", "cuda"], r"device is 'cuda', which this machine does not have"),
        (
            ["compare", "--pair", "nowhere"],
            r"'nowhere'; it must be embedded, embedded-mnist-blood, a folder, or CAPTIONER\+GENERATOR",
        ),
        (["report", "nowhere"], r"nowhere holds no results.json; make one with: clts compare"),
        (["caption", __file__], r"not an image that Pillow can read"),
    ],
)
def test_bad_commands_end_in_one_clear_line(arguments: list[str], message: str, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("clts: ")
    assert len(error.strip().splitlines()) == 1
    assert re.search(message, error)


def test_where_classes_come_again_rivals_keep_as_many_images_as_there_are_captions(
    tiny_pair_folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    def every_class_each_time(seed: int, options: dict, data_root: Path | None) -> Any:
        train, test = (ImageDataset(*part, classes=list(CLASS_NAMES)) for part in stream_digits())
        return ni_benchmark(
            train, test, n_experiences=3, seed=seed, train_transform=ToTensor(), eval_transform=ToTensor()
        )

    monkeypatch.setitem(STREAMS, "digits", replace(STREAMS["digits"], build=every_class_each_time))
    few = replace(QUICK, seeds=1, pair=str(tiny_pair_folder))
    monkeypatch.setattr(experiment, "COMPARED", ["clts", "er-count", "icarl"])
    clts, replay = compare(few, out=tmp_path)
    captions = 3 * 10 * QUICK.captions_per_class
    assert clts["router_accuracy"] is not None
    assert replay["memory_bytes"]["exemplars"] == captions * 64
    assert "icarl is left out: iCaRL gives each class to one experience" in capsys.readouterr().err
    with pytest.raises(ValueError, match="strategies has icarl, which cannot run on digits: iCaRL gives each class"):
        compare(replace(few, strategies=("icarl",)), out=tmp_path)


def test_router_has_a_network_of_its_own(tiny_pair: Pair) -> None:
    def parts(**options: Any) -> tuple[nn.Module, nn.Module]:
        asked = replace(QUICK, stream="shapes", **options)
        agent, _ = build(asked, "clts", 0, stream=parse_stream("shapes"), pair=tiny_pair)
        return agent.model.heads[0], agent.model.router.backbone

    # Heavy heads do not make a heavy router.
    head, router = parts(network="slim-resnet18")
    assert isinstance(head, ResNet)
    assert isinstance(router, nn.Sequential)
    head, router = parts(network="cnn", router="slim-resnet18")
    assert isinstance(head, nn.Sequential)
    assert isinstance(router, ResNet)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path, tiny_pair_folder: Path, capsys) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    arguments = ["compare", "--out", str(blocked / "results"), "--seeds", "1", "--pair", str(tiny_pair_folder)]
    assert main(arguments) == 2
    assert f"cannot write to {blocked / 'results'}" in capsys.readouterr().err


def test_caption_and_generate_from_the_command_line(tiny_pair_folder: Path, tmp_path: Path, capsys) -> None:
    options = ["--pair", str(tiny_pair_folder)]
    assert main(["generate", "a seven", "a two", "--out", str(tmp_path / "g"), *options]) == 0
    files = sorted((tmp_path / "g").glob("*.png"))
    assert [file.name for file in files] == ["0000.png", "0001.png"]
    texts = [json.loads(line)["text"] for line in (tmp_path / "g" / "metadata.jsonl").open()]
    assert texts == ["a seven", "a two"]
    assert main(["caption", *map(str, files), *options]) == 0
    assert str(files[1]) in capsys.readouterr().out
