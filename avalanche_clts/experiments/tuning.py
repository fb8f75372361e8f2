"""One search for the hyper-parameters of every strategy: the same number of trials for each, on a held-out seed."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from .._support.console import bar
from .._support.files import write_text
from ..streams.named import Stream, slug
from .experiment import Experiment
from .rows import ROWS, Results
from .rows.row import Grid
from .runs.execution import Task, execute
from .runs.folder import ResultsFolder

TUNING_SEED = 1000  # comparisons report seeds 0, 1, 2, ...
TRIALS = 6
_KEPT = ("stream", "strategy", "seed", "average_accuracy", "router_accuracy", "memory_bytes")


def grids(stream: Stream) -> dict[str, Grid]:
    """What is tried on a stream, by strategy; strategies that have nothing of their own are left out."""
    return {name: row.searched(stream.kind) for name, row in ROWS.items() if row.grid}


def tune(experiment: Experiment, *, stream: Stream, folder: ResultsFolder, jobs: int = 1) -> dict[str, dict[str, Any]]:
    """The best of `TRIALS` settings for each of the experiment's strategies, by average accuracy on `TUNING_SEED`.

    A trial is a run like any other: `folder` keeps it, and none that is there is run again. The trials and the best of
    them are written to `tuning-STREAM.json` in it, where strategies that are not searched now stay as they are.

    **Arguments:**

    - experiment: its own hyper-parameters are not looked at.
    - stream: the experiment's, with the folder of downloaded data.
    """
    grid = grids(stream)
    searched = [name for name in experiment.chosen if name in grid]
    file = folder.path / f"tuning-{slug(stream.name)}.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    with bar(total=TRIALS * len(searched), unit="trial") as shown:
        # Where a budget is that of CLTS, it is that of CLTS with its best setting: those come in a second round.
        best_clts: Results | None = None
        for after_clts in (False, True):
            names = [name for name in searched if ROWS[name].after_clts is after_clts]
            base = {"clts": found["clts"]["best"]} if after_clts and names else {}
            trials = {
                name: [
                    Task(
                        replace(experiment, hyperparameters=base | {name: options}),
                        name,
                        TUNING_SEED,
                        stream,
                        clts=best_clts if after_clts else None,
                        images=folder.images,
                    )
                    for options in combinations(grid[name])
                ]
                for name in names
            }
            missing = [folder.prepared(t) for tasks in trials.values() for t in tasks if folder.load(t) is None]
            shown.update(TRIALS * len(names) - len(missing))
            for task, results in execute(deque(missing), jobs=jobs, progress=shown.set_postfix_str):
                folder.save(task, results)
                shown.update()
            for name, tasks in trials.items():
                found[name] = _outcome(name, tasks, folder)
            if "clts" in trials:
                best_clts = max((_loaded(folder, t) for t in trials["clts"]), key=lambda r: r["average_accuracy"])
    write_text(file, json.dumps(found, indent=1) + "\n")
    return {name: found[name]["best"] for name in searched}


def _outcome(strategy: str, tasks: Sequence[Task], folder: ResultsFolder) -> dict[str, Any]:
    """What is written down of one strategy's search. Of equal trials, the first is the best."""
    trials = []
    for task in tasks:
        results = _loaded(folder, task)
        options = task.experiment.hyperparameters[strategy]
        trials.append({"options": options, "results": {name: results[name] for name in _KEPT}})
    best = max(trials, key=lambda trial: trial["results"]["average_accuracy"])
    conditions = folder.dependencies(tasks[0])
    del conditions["settings"]["hyperparameters"]
    return {"best": best["options"], "trials": trials, "conditions": conditions}


def _loaded(folder: ResultsFolder, task: Task) -> Results:
    results = folder.load(task)
    assert results is not None
    return results


def combinations(grid: Grid) -> Iterator[dict[str, Any]]:
    """Every choice of one value for each option."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))
