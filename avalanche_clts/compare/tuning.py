"""One search for the hyper-parameters of every strategy: the same number of trials for each, on a held-out seed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..named_streams import Stream, slug
from ..pairs import load_pair, pair_identity
from .execution import Task, execute
from .results import write_text
from .settings import Settings
from .strategies import STRATEGIES, Results

TUNING_SEED = 1000  # comparisons report seeds 0, 1, 2, ...
TRIALS = 6
Options = dict[str, Any]
_KEPT = ("stream", "strategy", "seed", "average_accuracy", "router_accuracy", "memory_bytes", "seconds")

_REPLAY: dict[str, list[Any]] = {"batch_size_mem": [8, 16, 32, 64, 128, 256]}
# What is a strategy's own. Joint, cumulative and naive have nothing that is not shared by all.
GRIDS: dict[str, dict[str, list[Any]]] = {
    "clts": {"replay_size": [1000, 2000], "router_epochs": [10, 20, 30]},
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

# Digits has half as many captions as shapes, and its images are generated for as many.
_FEWER_CAPTIONS: dict[str, dict[str, list[Any]]] = {
    "clts": {"replay_size": [500, 1000], "router_epochs": [10, 20, 30]},
    "caption-replay": {"replay_size": [200, 500], "batch_size_mem": [32, 64, 128]},
}


def grids(stream: Stream) -> dict[str, dict[str, list[Any]]]:
    """What is tried on a stream, by strategy."""
    return GRIDS | _FEWER_CAPTIONS if stream.kind == "digits" else GRIDS


def tune(
    stream: Stream,
    strategies: Sequence[str],
    *,
    settings: Settings,
    pair: str,
    device: str,
    out: Path,
    jobs: int = 1,
) -> dict[str, Options]:
    """The best of `TRIALS` settings for each strategy, by average accuracy on seed `TUNING_SEED`.

    Every trial is kept in `out/tuning-STREAM.json`, and none that is there is run again.

    **Arguments:**

    - settings: what all strategies share; its own hyper-parameters are not looked at.
    """
    file = out / f"tuning-{slug(stream.name)}.json"
    shared = {name: value for name, value in asdict(settings).items() if name != "tuned"}
    identity = pair_identity(load_pair(pair, device=device))
    conditions = {"stream": stream.name, "seed": TUNING_SEED, "pair": identity, "settings": shared}
    document = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    trials: list[dict[str, Any]] = document["trials"] if document.get("conditions") == conditions else []
    searched = [name for name in strategies if name in grids(stream)]
    # Where a budget is that of CLTS, it is that of CLTS with its best setting: those strategies come in a second round.
    first = [name for name in searched if not STRATEGIES[name].after_clts]
    clts: Results | None = None
    with tqdm(total=TRIALS * len(searched), unit="trial") as bar:
        for names in (first, [name for name in searched if name not in first]):
            if names and names != first:
                clts = best(trials, "clts", stream)["results"]
            tasks: list[Task] = []
            for name, options in _settings(names, stream):
                if any(t["strategy"] == name and t["options"] == options for t in trials):
                    bar.update()
                    continue
                tried = replace(settings, tuned={name: options})
                tasks.append(Task(stream, name, TUNING_SEED, tried, pair, device, clts=clts))
            for task, results in execute(tasks, jobs=jobs, progress=bar.set_description):
                options = task.settings.tuned[task.strategy]
                trials.append(
                    {
                        "strategy": task.strategy,
                        "options": options,
                        "results": {name: results[name] for name in _KEPT},
                    }
                )
                write_text(file, json.dumps({"conditions": conditions, "trials": trials}, indent=1))
                bar.update()
    chosen = {name: best(trials, name, stream)["options"] for name in searched}
    write_text(file, json.dumps({"conditions": conditions, "trials": trials, "best": chosen}, indent=1))
    return chosen


def best(trials: Sequence[dict[str, Any]], strategy: str, stream: Stream) -> dict[str, Any]:
    """The strategy's trial with the highest average accuracy; of equals, the one that comes first in its grid."""
    order = [options for _, options in _settings([strategy], stream)]
    mine = sorted((t for t in trials if t["strategy"] == strategy), key=lambda t: order.index(t["options"]))
    return max(mine, key=lambda t: t["results"]["average_accuracy"])


def _settings(strategies: Sequence[str], stream: Stream) -> Iterator[tuple[str, Options]]:
    for name in strategies:
        grid = grids(stream)[name]
        for values in itertools.product(*grid.values()):
            yield name, dict(zip(grid, values, strict=True))
