"""Runs: what they share, what they go on from, how hyper-parameters are searched with them."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.losses import ICaRLLossPlugin
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.supervised import JointTraining

from avalanche_clts import CLTS, Pair, RoutedModel, save_checkpoint
from avalanche_clts.experiments import ablate, compare, tuning
from avalanche_clts.experiments.experiment import Conditions
from avalanche_clts.experiments.rows import COMPARED, ROWS, shared
from avalanche_clts.experiments.rows.row import Row
from avalanche_clts.experiments.rows.shared import augmented
from avalanche_clts.experiments.runs import execution
from avalanche_clts.experiments.runs.execution import Task
from avalanche_clts.experiments.runs.folder import ResultsFolder
from avalanche_clts.experiments.runs.runner import build
from avalanche_clts.experiments.validation import held_out
from avalanche_clts.pair.loading import load_pair, pair_identity
from avalanche_clts.streams.classic import core50_run
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


def tried(grid: dict[str, list], score=lambda options: 0.0) -> list[dict]:
    """The settings of a search in which `score` is the accuracy."""
    search = tuning.Descent(grid, count=tuning.TRIALS, seed="a row")
    while settings := search.following():
        search.scores += [(options, score(options)) for options in settings]
    return [options for options, _ in search.scores]


@pytest.mark.parametrize("stream", ["digits", "shapes", "split-cifar10"])
@pytest.mark.parametrize("on_features", [False, True])
def test_every_strategy_has_as_many_trials_of_what_it_can_have(stream: str, on_features: bool) -> None:
    for name in COMPARED:
        grid = ROWS[name].searched(stream, on_features=on_features)
        if not grid:
            assert not ROWS[name].trained or ROWS[name].like in COMPARED
            continue
        settings = tried(grid)
        possible = math.prod(map(len, grid.values()))
        assert len({json.dumps(s) for s in settings}) == len(settings) == min(tuning.TRIALS, possible), name
        assert settings == tried(grid), "drawn anew"
        for option, values in grid.items():
            assert {s[option] for s in settings} == set(values), f"{name}: some {option} was never tried"
        for options in settings:
            ROWS[name].require_options(options)
        shared = {"learning_rate", "falling_rate"} | (set() if on_features else {"augmentation"})
        assert shared & grid.keys() == (shared if ROWS[name].trained else set()), name
        assert not (on_features and "augmentation" in grid)


def test_search_goes_on_from_the_best_so_far() -> None:
    grid = {"a": [1, 2, 3], "b": [False, True], "c": [10, 20]}
    best = {"a": 3, "b": False, "c": 20}
    settings = tried(grid, lambda options: sum(options[name] == best[name] for name in grid))
    assert settings[:5] == [
        {"a": 1, "b": False, "c": 10},
        {"a": 2, "b": False, "c": 10},
        {"a": 3, "b": False, "c": 10},
        {"a": 3, "b": True, "c": 10},
        best,
    ]
    assert len(settings) == 12, "then the others"


def test_search_looks_at_images_that_no_strategy_is_trained_on_nor_reported_on() -> None:
    stream = parse_stream("digits")
    torch.manual_seed(0)
    whole, judged = stream.build(tuning.TUNING_SEED), held_out(stream.build(tuning.TUNING_SEED), tuning.VALIDATION)
    digest = lambda dataset: Counter(x.numpy().tobytes() for x, *_ in dataset.eval())  # noqa: E731
    for original, train, test, reported in zip(
        whole.train_stream, judged.train_stream, judged.test_stream, whole.test_stream, strict=True
    ):
        assert digest(train.dataset) + digest(test.dataset) == digest(original.dataset)
        assert not digest(test.dataset) & (digest(train.dataset) + digest(reported.dataset))
        assert len(test.dataset) / len(original.dataset) == pytest.approx(tuning.VALIDATION, abs=0.02)
        classes = set(original.classes_in_this_experience)
        assert classes == set(train.classes_in_this_experience) == set(test.classes_in_this_experience)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.compared and not row.on_features])
def test_every_strategy_runs_on_images_held_out(name: str, tiny_pair: Pair) -> None:
    clts = {"memory_bytes": {"captions": 1000, "exemplars": 0, "heads": 10**6, "router": 10**6}}
    asked = replace(QUICK, validation=tuning.VALIDATION)
    agent, benchmark = build(asked, name, 0, stream=parse_stream("digits"), pair=tiny_pair, clts=clts)
    joint = isinstance(agent, JointTraining)
    for step in [benchmark.train_stream] if joint else list(benchmark.train_stream)[:2]:
        agent.train(step)
    assert any(metric.startswith("Top1_Acc_Exp") for metric in agent.eval(list(benchmark.test_stream)[:2]))


def test_replay_beside_a_memory_of_images_has_their_bytes(tiny_pair: Pair) -> None:
    """Where CLTS keeps images, its budget is these."""
    kept = {"captions": 0, "exemplars": 640, "heads": 4096, "router": 4096}
    asked = replace(QUICK, memory="images", hyperparameters={})
    sizes = {}
    for name in ("er-bytes", "er-63x", "er-total"):
        agent, _ = build(asked, name, 0, stream=parse_stream("digits"), pair=tiny_pair, clts={"memory_bytes": kept})
        sizes[name] = next(plugin.mem_size for plugin in agent.plugins if isinstance(plugin, ReplayPlugin))
    network = sum(p.nbytes for p in agent.model.parameters())
    assert sizes["er-bytes"] == 10
    assert sizes["er-63x"] == 630
    assert sizes["er-total"] == max(1, (640 + 2 * 4096 - network) // 64)


def test_a_timed_run_does_not_go_on_from_one_that_took_images_of_others(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path, Conditions([], {}))
    task = Task(QUICK, "clts", 0, parse_stream("digits"))
    shared_images = replace(task, images=tmp_path / "images")
    timed, untimed = (folder.prepared(t).unfinished for t in (task, shared_images))
    assert timed != untimed
    assert folder.file(task) == folder.file(shared_images), "finished, it is the same run"


def test_no_reported_seed_has_the_searchs_order_of_classes() -> None:
    for name in ("digits", "shapes"):
        stream = parse_stream(name)
        assert stream.build(tuning.TUNING_SEED).classes_order not in [stream.build(s).classes_order for s in range(10)]
    assert core50_run(tuning.TUNING_SEED) not in {core50_run(seed) for seed in range(20)}


@pytest.mark.parametrize("name", ["er-count", "er-ace", "der++", "caption-replay", "clts", "name-only"])
def test_images_of_memory_are_augmented_as_the_streams_are(name: str, tiny_pair: Pair, monkeypatch) -> None:
    """Whatever a strategy does with them: that they look otherwise than new ones is nothing to learn from."""
    few = {"er-count": {"batch_size_mem": 8}, "er-ace": {"batch_size_mem": 8}}.get(name, {})
    asked = replace(QUICK, train_epochs=1, hyperparameters={name: few | {"augmentation": "shifted"}})
    kept = {"memory_bytes": {"captions": 999, "exemplars": 0, "heads": 9999, "router": 9999}}
    monkeypatch.setattr(shared, "augmented", lambda images, *, mirrored: torch.zeros_like(images))
    agent, benchmark = build(asked, name, 0, stream=parse_stream("digits"), pair=tiny_pair, clts=kept)
    routed = isinstance(agent.model, RoutedModel)
    networks = {"heads or all": agent.model} | ({"router": agent.model.router.backbone} if routed else {})
    seen: dict[str, list[bool]] = {who: [] for who in networks}
    for who, network in networks.items():
        network.register_forward_pre_hook(
            lambda network, inputs, of=seen[who]: of.append(bool((inputs[0] == 0).all())) if network.training else None
        )
    for experience in benchmark.train_stream[:2]:
        agent.train(experience, eval_streams=[])
    for who, zeros in seen.items():
        assert len(zeros) > 10, who
        assert all(zeros), who


def test_icarl_distils_from_what_the_network_sees(tiny_pair: Pair, monkeypatch) -> None:
    asked = replace(QUICK, train_epochs=1, hyperparameters={"icarl": {"augmentation": "shifted"}})
    monkeypatch.setattr(shared, "augmented", lambda images, *, mirrored: torch.zeros_like(images))
    agent, benchmark = build(asked, "icarl", 0, stream=parse_stream("digits"), pair=tiny_pair)
    agent.train(benchmark.train_stream[0], eval_streams=[])
    zeros: list[bool] = []
    (teacher,) = (plugin.old_model for plugin in agent.plugins if isinstance(plugin, ICaRLLossPlugin))
    teacher.register_forward_pre_hook(lambda network, inputs: zeros.append(bool((inputs[0] == 0).all())))
    agent.train(benchmark.train_stream[1], eval_streams=[])
    assert zeros
    assert all(zeros)


@pytest.mark.parametrize("name", ["er-ace", "der++"])
def test_a_memory_smaller_than_its_batch_is_replayed(name: str, tiny_pair: Pair) -> None:
    """Avalanche's strategies go on without it, and say nothing."""
    asked = replace(QUICK, train_epochs=1, hyperparameters={name: {"batch_size_mem": 256}})
    agent, benchmark = build(asked, name, 0, stream=parse_stream("digits"), pair=tiny_pair)
    seen: list[int] = []
    agent.model.register_forward_pre_hook(
        lambda network, inputs: seen.append(len(inputs[0])) if network.training else None
    )
    agent.train(benchmark.train_stream[0], eval_streams=[])
    new = sum(seen)
    assert new == len(benchmark.train_stream[0].dataset)
    seen.clear()
    agent.train(benchmark.train_stream[1], eval_streams=[])
    assert 0 < len(agent.storage_policy.buffer) < 256
    assert sum(seen) > len(benchmark.train_stream[1].dataset) + 100


def test_a_vae_learns_from_every_image(tiny_pair: Pair) -> None:
    """But for a last batch of a single one, which its batch normalisation refuses."""
    asked = replace(QUICK, train_epochs=1, train_mb_size=100, hyperparameters={})
    agent, benchmark = build(asked, "generative-replay", 0, stream=parse_stream("digits"), pair=tiny_pair)
    seen: list[int] = []
    agent.generator_strategy.model.register_forward_pre_hook(lambda network, inputs: seen.append(len(inputs[0])))
    agent.train(benchmark.train_stream[0], eval_streams=[])
    assert sum(seen) == len(benchmark.train_stream[0].dataset)
    assert len(seen) > 1


def test_augmented_images_are_shifted_and_mirrored_one_by_one() -> None:
    """Every one is the image behind a window of its own, or the mirror image of that."""
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    framed = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")[0, 0]
    windows = [framed[y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    for mirrored, expected in ((False, windows), (True, [*windows, *(w.flip(1) for w in windows)])):
        made = augmented(image.expand(400, 1, 8, 8), mirrored=mirrored)
        found = {tuple(m.flatten().tolist()) for m in made}
        assert found == {tuple(w.flatten().tolist()) for w in expected}


def test_what_is_everyones_reaches_the_strategy(tiny_pair: Pair, tmp_path: Path) -> None:
    shared = {"learning_rate": 0.02, "falling_rate": True, "augmentation": "shifted"}
    for name in ("naive", "icarl", "clts", "der++"):
        asked = replace(QUICK, hyperparameters={name: shared})
        agent, benchmark = build(asked, name, 0, stream=parse_stream("digits"), pair=tiny_pair)
        rates, seen = [], []

        class Watch(SupervisedPlugin):
            def before_training_iteration(self, strategy, **kwargs):
                rates.append(strategy.optimizer.param_groups[0]["lr"])  # noqa: B023
                seen.append((strategy.mb_x, strategy))  # noqa: B023

            def after_forward(self, strategy, **kwargs):
                assert strategy.mb_x is not seen[-1][0], "the batch is as it was"  # noqa: B023

        agent.plugins.append(Watch())
        for experience in benchmark.train_stream[:2]:
            agent.train(experience)
            assert rates[0] == 0.02, name
            assert rates[-1] < 0.02 or asked.train_epochs == 1
            rates.clear()
        if name == "clts":
            agent.plugins.pop()
            save_checkpoint(agent, tmp_path)  # as after every experience of a run


def test_search_takes_the_best_of_as_many_trials_for_everyone(
    tiny_pair_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    few = {
        "lwf": {"alpha": [0.5, 1.0], "temperature": [2.0]},
        "er-bytes": {"augmentation": ["none", "shifted"], "batch_size_mem": [8, 16]},
        "clts": {"replay_size": [12], "router_epochs": [1], "router_label_smoothing": [0.1, 0.0]},
        "naive": {"learning_rate": [1e-3, 3e-3]},
        "captioner": {},  # has nothing to choose
    }
    monkeypatch.setattr(tuning, "TRIALS", 2)
    monkeypatch.setattr(Row, "searched", lambda row, kind, **options: few[row.name])
    stream = parse_stream("digits")
    folder = ResultsFolder(tmp_path, Conditions(pair_identity(load_pair(tiny_pair_folder)), {}))

    def search(*strategies: str) -> dict:
        asked = replace(QUICK, strategies=strategies, pair=str(tiny_pair_folder))
        return tuning.tune(asked, stream=stream, folder=folder)

    chosen = search("captioner", "clts", "er-bytes", "lwf", "naive")
    del few["captioner"]
    document = json.loads((tmp_path / "tuning-digits.json").read_text())
    assert document.keys() == chosen.keys() == few.keys()
    for strategy, found in document.items():
        scores = {json.dumps(t["options"]): t["results"]["average_accuracy"] for t in found["trials"]}
        assert len(scores) == 2
        assert found["best"] == chosen[strategy]
        assert scores[json.dumps(found["best"])] == max(scores.values())
        assert {t["results"]["seed"] for t in found["trials"]} == {tuning.TUNING_SEED}
        assert found["conditions"]["settings"]["validation"] == tuning.VALIDATION, "a search looked at test images"
    assert "pair" in document["er-bytes"]["conditions"]
    assert "pair" not in document["lwf"]["conditions"]
    monkeypatch.setattr(execution, "run", lambda *a, **k: pytest.fail("a finished trial was run again"))
    assert search("clts", "er-bytes", "lwf", "naive") == chosen
    assert search("lwf") == {"lwf": chosen["lwf"]}
    few["clts+captioner"] = {}
    assert search("clts+captioner") == {"clts": chosen["clts"]}, "what it is like is searched in its place"
    assert json.loads((tmp_path / "tuning-digits.json").read_text()) == document


def test_several_processes_give_the_same_runs(tiny_pair_folder: Path, tmp_path: Path) -> None:
    def figures(out: Path, jobs: int) -> list[tuple]:
        asked = replace(QUICK, strategies=("naive", "er-bytes"), seeds=1, pair=str(tiny_pair_folder))
        runs = compare(asked, out=out, jobs=jobs)
        return [(run["strategy"], run["accuracy_matrix"]) for run in runs]

    assert figures(tmp_path / "two", 2) == figures(tmp_path / "one", 1)
