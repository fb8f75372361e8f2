"""One search for the hyper-parameters of every strategy: the same number of trials for each, on images held out of
training, in an order of classes that no comparison reports."""

from __future__ import annotations

import itertools
import json
import random
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from .._support.console import bar
from .._support.files import read_object, write_text
from ..streams.named import Stream, slug
from ..streams.orders import order_of
from .experiment import Experiment
from .rows import ROWS, Results
from .rows.row import Grid, Options
from .runs.execution import Task, execute
from .runs.folder import ResultsFolder
from .validation import held_out

TUNING_SEED = 1000  # comparisons report seeds 0, 1, 2, ...; see `unreported_seed`
_SEEDS = 10  # that are tried for an order of classes of their own
TRIALS = 14  # enough for every value of any strategy's hyper-parameters, one after the other
VALIDATION = 0.2  # of every training experience's images; the search never sees a test image
_KEPT = ("stream", "strategy", "seed", "average_accuracy", "router_accuracy", "memory_bytes")


class Descent:
    """The settings that are tried of one strategy: the first values of all its hyper-parameters; then all values of one
    hyper-parameter after the other, beside the best so far of the others, around and around (coordinate descent); and
    where that finds no new setting any more, others, drawn at random.

    **Arguments:**

    - grid: the values of each hyper-parameter, those that matter most first.
    - count: of settings, or all where there are fewer.
    - seed: of what is drawn.
    """

    def __init__(self, grid: Grid, *, count: int, seed: str) -> None:
        self._every: list[Options] = [
            dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
        ]
        self._grid, self._hyperparameters = grid, itertools.cycle(grid)
        self._drawn = random.Random(seed).sample(self._every, len(self._every))
        self.count = min(count, len(self._every))
        self.scores: list[tuple[Options, float]] = []

    @property
    def best(self) -> Options:
        """Of the settings tried so far; of equal ones, the first."""
        return max(self.scores, key=lambda scored: scored[1])[0]

    def following(self) -> list[Options]:
        """The settings to try next, given the `scores` of all before; none at the end."""
        left = self.count - len(self.scores)
        if not self.scores:
            return self._every[:left][:1]
        for name in itertools.islice(self._hyperparameters, len(self._grid)):
            new = self._untried([{**self.best, name: value} for value in self._grid[name]])
            if new:
                return new[:left]
        return self._untried(self._drawn)[:left]

    def _untried(self, settings: Sequence[Options]) -> list[Options]:
        tried = [setting for setting, _ in self.scores]
        return [setting for setting in settings if setting not in tried]


def tune(
    experiment: Experiment,
    *,
    stream: Stream,
    folder: ResultsFolder,
    jobs: int | None = None,
    executor: Executor | None = None,
) -> dict[str, dict[str, Any]]:
    """The best of `TRIALS` settings for each of the experiment's strategies, by average accuracy on a seed that is not
    reported, on images held out of training.

    A trial is a run like any other: `folder` keeps it, and none that is there is run again. The trials and the best of
    them are written to `tuning-STREAM.json` in it, where strategies that are not searched now stay as they are.

    **Arguments:**

    - experiment: its own hyper-parameters are not looked at.
    - stream: the experiment's, with the folder of downloaded data.
    - jobs, executor: as in `compare`.
    """
    file = tuning_file(folder.path, stream)
    found: dict[str, Any] = read_object(file) if file.exists() else {}
    seed = unreported_seed(stream, experiment.seeds)
    on_held_out = replace(experiment, tune=False, validation=VALIDATION)
    # One that is like another has what is found for that; and some have nothing to choose.
    chosen = {ROWS[name].like or name for name in experiment.chosen}
    searched = {
        name: Descent(grid, count=TRIALS, seed=name)
        for name in ROWS
        if name in chosen and (grid := ROWS[name].searched(stream.kind, on_features=experiment.on_features))
    }
    done = partial(execute, jobs=jobs, executor=executor)
    with bar(total=sum(search.count for search in searched.values()), unit="trial") as shown:
        # Where a budget is that of CLTS, it is that of CLTS with its best setting: those come in a second round.
        best_clts: Results | None = None
        for after_clts in (False, True):
            tasks_of: dict[str, list[Task]] = {name: [] for name in searched if ROWS[name].after_clts is after_clts}
            base = {"clts": found["clts"]["best"]} if after_clts and tasks_of else {}
            while asked := {name: new for name in tasks_of if (new := searched[name].following())}:
                tasks = {
                    name: [
                        Task(
                            replace(on_held_out, hyperparameters=base | {name: options}),
                            name,
                            seed,
                            stream,
                            clts=best_clts if after_clts else None,
                            images=folder.images,
                        )
                        for options in settings
                    ]
                    for name, settings in asked.items()
                }
                missing = [folder.prepared(t) for some in tasks.values() for t in some if folder.load(t) is None]
                shown.update(sum(map(len, tasks.values())) - len(missing))
                for task, results in done(deque(missing), progress=shown.set_postfix_str):
                    folder.save(task, results)
                    shown.update()
                for name, some in tasks.items():
                    tasks_of[name] += some
                    scores = [_loaded(folder, task)["average_accuracy"] for task in some]
                    searched[name].scores += zip(asked[name], scores, strict=True)
            for name, some in tasks_of.items():
                found[name] = _outcome(searched[name], some, folder)
            if "clts" in tasks_of:
                best_clts = max(
                    (_loaded(folder, task) for task in tasks_of["clts"]), key=lambda run: run["average_accuracy"]
                )
    write_text(file, json.dumps(found, indent=1) + "\n")
    return {name: found[name]["best"] for name in searched}


def tuning_file(folder: Path, stream: Stream) -> Path:
    """Where a folder of results keeps what a search has found on a stream."""
    return folder / f"tuning-{slug(stream.name)}.json"


def found_before(folder: Path, stream: Stream) -> dict[str, dict[str, Any]]:
    """The best settings of a search that the folder keeps, by strategy; none where none was run, and none of those that
    once looked at test images."""
    file = tuning_file(folder, stream)
    kept = read_object(file) if file.exists() else {}
    return {name: f["best"] for name, f in kept.items() if f["conditions"]["settings"].get("validation")}


def require_searchable(benchmark: Any) -> None:
    """Raise `ValueError` where a search could hold no images out of training."""
    try:
        held_out(benchmark, VALIDATION)
    except ValueError:
        raise ValueError(
            f"tune is True, but a search holds out {VALIDATION:.0%} of the images of each class, and an experience has "
            f"no class of {round(1 / VALIDATION)} images or more to train on; leave tune out"
        ) from None


def unreported_seed(stream: Stream, seeds: int) -> int:
    """`TUNING_SEED`, or the first seed after it whose order of classes none of the reported seeds has; where the stream
    has so few orders that there is none, `TUNING_SEED`."""
    reported = [order_of(stream.build(seed)) for seed in range(seeds)]
    others = range(TUNING_SEED, TUNING_SEED + _SEEDS)
    if all(order == reported[0] for order in reported[1:]) and seeds > 1:
        others = others[: len(reported)]  # most likely the only one
    return next((seed for seed in others if order_of(stream.build(seed)) not in reported), TUNING_SEED)


def _outcome(search: Descent, tasks: Sequence[Task], folder: ResultsFolder) -> dict[str, Any]:
    """What is written down of one strategy's search."""
    tried = [
        {"options": options, "results": {name: _loaded(folder, task)[name] for name in _KEPT}}
        for (options, _), task in zip(search.scores, tasks, strict=True)
    ]
    conditions = folder.dependencies(tasks[0])
    del conditions["settings"]["hyperparameters"]
    return {"best": search.best, "trials": tried, "conditions": conditions}


def _loaded(folder: ResultsFolder, task: Task) -> Results:
    results = folder.load(task)
    assert results is not None
    return results
