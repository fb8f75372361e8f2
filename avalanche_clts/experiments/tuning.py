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
from .rows.row import Row
from .runs.execution import Task, execute
from .runs.folder import ResultsFolder

TUNING_SEED = 1000  # comparisons report seeds 0, 1, 2, ...
TRIALS = 8
VALIDATION = 0.2  # of every training experience's images; the search never sees a test image
_KEPT = ("stream", "strategy", "seed", "average_accuracy", "router_accuracy", "memory_bytes")


def trials(row: Row, stream_kind: str, count: int = TRIALS, *, on_features: bool = False) -> list[dict[str, Any]]:
    """The settings that are tried of a strategy on a kind of streams: the first values of all its hyper-parameters, and
    others, drawn at random (Bergstra and Bengio, JMLR 2012), the same ones each time; fewer where it has no more.

    **Arguments:**

    - on_features: as in `Row.searched`.
    """
    grid = row.searched(stream_kind, on_features=on_features)
    every = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return every[:1] + random.Random(row.name).sample(every[1:], min(count, len(every)) - 1)


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
    settings = {name: trials(ROWS[name], stream.kind, on_features=experiment.on_features) for name in experiment.chosen}
    settings = {name: tried for name, tried in settings.items() if any(tried)}  # some have nothing to choose
    done = partial(execute, jobs=jobs, executor=executor)
    with bar(total=sum(map(len, settings.values())), unit="trial") as shown:
        # Where a budget is that of CLTS, it is that of CLTS with its best setting: those come in a second round.
        best_clts: Results | None = None
        for after_clts in (False, True):
            names = [name for name in settings if ROWS[name].after_clts is after_clts]
            base = {"clts": found["clts"]["best"]} if after_clts and names else {}
            tasks_of = {
                name: [
                    Task(
                        replace(experiment, hyperparameters=base | {name: options}, validation=VALIDATION),
                        name,
                        TUNING_SEED,
                        stream,
                        clts=best_clts if after_clts else None,
                        images=folder.images,
                    )
                    for options in settings[name]
                ]
                for name in names
            }
            missing = [folder.prepared(t) for tasks in tasks_of.values() for t in tasks if folder.load(t) is None]
            shown.update(sum(len(settings[name]) for name in names) - len(missing))
            for task, results in done(deque(missing), progress=shown.set_postfix_str):
                folder.save(task, results)
                shown.update()
            for name, tasks in tasks_of.items():
                found[name] = _outcome(name, tasks, folder)
            if "clts" in tasks_of:
                best_clts = max((_loaded(folder, t) for t in tasks_of["clts"]), key=lambda r: r["average_accuracy"])
    write_text(file, json.dumps(found, indent=1) + "\n")
    return {name: found[name]["best"] for name in settings}


def _outcome(strategy: str, tasks: Sequence[Task], folder: ResultsFolder) -> dict[str, Any]:
    """What is written down of one strategy's search. Of equal trials, the first is the best."""
    tried = []
    for task in tasks:
        results = _loaded(folder, task)
        options = task.experiment.hyperparameters[strategy]
        tried.append({"options": options, "results": {name: results[name] for name in _KEPT}})
    best = max(tried, key=lambda trial: trial["results"]["average_accuracy"])
    conditions = folder.dependencies(tasks[0])
    del conditions["settings"]["hyperparameters"]
    return {"best": best["options"], "trials": tried, "conditions": conditions}


def _loaded(folder: ResultsFolder, task: Task) -> Results:
    results = folder.load(task)
    assert results is not None
    return results
