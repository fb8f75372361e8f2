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
from typing import Any

from .._support.console import bar
from .._support.files import write_text
from ..streams.named import Stream, slug
from .experiment import Experiment
from .rows import ROWS, Results
from .rows.row import Grid, Options
from .runs.execution import Task, execute
from .runs.folder import ResultsFolder

TUNING_SEED = 1000  # comparisons report seeds 0, 1, 2, ...
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
    """The best of `TRIALS` settings for each of the experiment's strategies, by average accuracy on `TUNING_SEED`, on
    images held out of training.

    A trial is a run like any other: `folder` keeps it, and none that is there is run again. The trials and the best of
    them are written to `tuning-STREAM.json` in it, where strategies that are not searched now stay as they are.

    **Arguments:**

    - experiment: its own hyper-parameters are not looked at.
    - stream: the experiment's, with the folder of downloaded data.
    - jobs, executor: as in `compare`.
    """
    file = folder.path / f"tuning-{slug(stream.name)}.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    searched = {
        name: Descent(grid, count=TRIALS, seed=name)
        for name in experiment.chosen
        if (grid := ROWS[name].searched(stream.kind, on_features=experiment.on_features))  # some have nothing to choose
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
                            replace(experiment, hyperparameters=base | {name: options}, validation=VALIDATION),
                            name,
                            TUNING_SEED,
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
