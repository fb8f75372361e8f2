"""One search for the hyper-parameters of every strategy: the same number of trials for each, on a held-out seed."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, get_args

from tqdm import tqdm

from .._support.files import write_text
from ..memory.selection import Selection
from ..plugins import Keep, RouterData, RouterTargets
from ..streams.named import Stream, slug
from .rows.strategies import STRATEGIES, Results
from .runs.execution import Task, execute
from .runs.results import ResultsFolder
from .settings import Settings

TUNING_SEED = 1000  # comparisons report seeds 0, 1, 2, ...
TRIALS = 6
Options = dict[str, Any]
_KEPT = ("stream", "strategy", "seed", "average_accuracy", "router_accuracy", "memory_bytes")

_REPLAY: dict[str, list[Any]] = {"batch_size_mem": [8, 16, 32, 64, 128, 256]}
# What is a strategy's own. Joint, cumulative and naive have nothing that is not shared by all.
GRIDS: dict[str, dict[str, list[Any]]] = {
    "clts": {"replay_size": [1000, 2000], "router_epochs": [5, 10, 20]},
    "caption-replay": {"replay_size": [400, 1000], "batch_size_mem": [32, 64, 128]},
    "er-bytes": _REPLAY,
    "er-count": _REPLAY,
    "er-63x": _REPLAY,
    "er-total": _REPLAY,
    "er-reservoir": _REPLAY,
    "er-ace": _REPLAY,
    "der++": {"alpha": [0.1, 0.5, 1.0], "beta": [0.5, 1.0]},
    "gdumb": {"train_epochs": [10, 20, 30, 50, 75, 100]},
    "icarl": {"learning_rate": [3e-4, 1e-3, 3e-3], "train_epochs": [10, 20]},
    "generative-replay": {"latent_dim": [8, 32, 100], "generator_epochs": [10, 30]},
    "expert-gate": {"latent_dim": [20, 50, 100], "epochs": [10, 30]},
    "ewc": {"ewc_lambda": [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]},
    "lwf": {"alpha": [0.5, 1.0, 5.0], "temperature": [1.0, 2.0]},
    "si": {"si_lambda": [0.1, 1.0, 10.0, 100.0, 1e3, 1e4]},
}

# What can be set but is not searched: ablations vary it.
UNSEARCHED: dict[str, dict[str, tuple[Any, ...]]] = {
    "clts": {
        "router_data": get_args(RouterData),
        "router_targets": get_args(RouterTargets),
        "keep": get_args(Keep),
        "selection": get_args(Selection),
        "recombine": (True, False),
    }
}
# Digits has half as many captions as shapes, and its images are generated for as many.
_FEWER_CAPTIONS: dict[str, dict[str, list[Any]]] = {
    "clts": {"replay_size": [500, 1000], "router_epochs": [10, 20, 30]},
    "caption-replay": {"replay_size": [200, 500], "batch_size_mem": [32, 64, 128]},
}


def grids(stream: Stream) -> dict[str, dict[str, list[Any]]]:
    """What is tried on a stream, by strategy."""
    return GRIDS | _FEWER_CAPTIONS if stream.kind == "digits" else GRIDS


def options_of(strategy: str) -> list[str]:
    """The names of a strategy's own hyper-parameters."""
    return [*GRIDS.get(strategy, {}), *UNSEARCHED.get(strategy, {})]


def tune(
    stream: Stream, strategies: Sequence[str], *, settings: Settings, pair: str, folder: ResultsFolder, jobs: int = 1
) -> dict[str, Options]:
    """The best of `TRIALS` settings for each strategy, by average accuracy on seed `TUNING_SEED`.

    A trial is a run like any other: `folder` keeps it, and none that is there is run again. The trials and the best of
    them are written to `tuning-STREAM.json` in it, where strategies that are not searched now stay as they are.

    **Arguments:**

    - settings: what all strategies share; its own hyper-parameters are not looked at.
    """
    grid = grids(stream)
    searched = [name for name in strategies if name in grid]
    file = folder.path / f"tuning-{slug(stream.name)}.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    with tqdm(total=TRIALS * len(searched), unit="trial") as bar:
        # Where a budget is that of CLTS, it is that of CLTS with its best setting: those come in a second round.
        best_clts: Results | None = None
        for after_clts in (False, True):
            names = [name for name in searched if STRATEGIES[name].after_clts is after_clts]
            if after_clts:
                settings = replace(settings, tuned={"clts": found["clts"]["best"]} if names else {})
            trials = {
                name: [
                    _trial(stream, name, options, settings, pair, folder, best_clts)
                    for options in combinations(grid[name])
                ]
                for name in names
            }
            missing = [folder.prepared(t) for tasks in trials.values() for t in tasks if folder.load(t) is None]
            bar.update(TRIALS * len(names) - len(missing))
            for task, results in execute(deque(missing), jobs=jobs, progress=bar.set_description):
                folder.save(task, results)
                bar.update()
            for name, tasks in trials.items():
                found[name] = _outcome(name, tasks, folder)
            if "clts" in trials:
                best_clts = max((_loaded(folder, t) for t in trials["clts"]), key=lambda r: r["average_accuracy"])
    write_text(file, json.dumps(found, indent=1) + "\n")
    return {name: found[name]["best"] for name in searched}


def _trial(
    stream: Stream,
    strategy: str,
    options: Options,
    settings: Settings,
    pair: str,
    folder: ResultsFolder,
    clts: Results | None,
) -> Task:
    tuned = settings.tuned | {strategy: options}
    return Task(
        stream,
        strategy,
        TUNING_SEED,
        replace(settings, tuned=tuned),
        pair,
        folder.conditions["device"],
        clts=clts if STRATEGIES[strategy].after_clts else None,
        images=folder.images,
    )


def _outcome(strategy: str, tasks: Sequence[Task], folder: ResultsFolder) -> dict[str, Any]:
    """What is written down of one strategy's search. Of equal trials, the first is the best."""
    trials = [
        {"options": task.settings.tuned[strategy], "results": {name: _loaded(folder, task)[name] for name in _KEPT}}
        for task in tasks
    ]
    best = max(trials, key=lambda trial: trial["results"]["average_accuracy"])
    conditions = folder.dependencies(tasks[0])
    del conditions["settings"]["tuned"]
    return {"best": best["options"], "trials": trials, "conditions": conditions}


def _loaded(folder: ResultsFolder, task: Task) -> Results:
    results = folder.load(task)
    assert results is not None
    return results


def combinations(grid: dict[str, list[Any]]) -> Iterator[Options]:
    """Every choice of one value for each option."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))
