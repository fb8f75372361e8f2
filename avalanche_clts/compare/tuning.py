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
    grid = grids(stream)
    searched = [name for name in strategies if name in grid]
    shared = {name: value for name, value in asdict(settings).items() if name != "tuned"}
    identity = pair_identity(load_pair(pair, device=device))
    trials = Trials(
        out / f"tuning-{slug(stream.name)}.json",
        {"stream": stream.name, "seed": TUNING_SEED, "pair": identity, "settings": shared},
    )
    with tqdm(total=TRIALS * len(searched), unit="trial") as bar:
        # Where a budget is that of CLTS, it is that of CLTS with its best setting: those come in a second round.
        for after_clts in (False, True):
            names = [name for name in searched if STRATEGIES[name].after_clts is after_clts]
            clts = trials.best("clts")["results"] if names and after_clts else None
            tasks = [
                Task(stream, name, TUNING_SEED, replace(settings, tuned={name: options}), pair, device, clts=clts)
                for name in names
                for options in combinations(grid[name])
                if not trials.has(name, options)
            ]
            bar.update(TRIALS * len(names) - len(tasks))
            for task, results in execute(tasks, jobs=jobs, progress=bar.set_description):
                trials.add(task.strategy, task.settings.tuned[task.strategy], results)
                bar.update()
    return trials.conclude(searched)


class Trials:
    """The trials of a search, on disk after each.

    **Arguments:**

    - file: where they are kept.
    - conditions: what they depend on; trials that the file holds under other conditions are dropped.
    """

    def __init__(self, file: Path, conditions: dict[str, Any]) -> None:
        self.file = file
        self.conditions = conditions
        kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        self.trials: list[dict[str, Any]] = kept["trials"] if kept.get("conditions") == conditions else []

    def has(self, strategy: str, options: Options) -> bool:
        """Whether these options have been tried."""
        return any(t["strategy"] == strategy and t["options"] == options for t in self.trials)

    def add(self, strategy: str, options: Options, results: Results) -> None:
        """Keep a finished trial."""
        kept = {name: results[name] for name in _KEPT}
        self.trials.append({"strategy": strategy, "options": options, "results": kept})
        self._write({})

    def best(self, strategy: str) -> dict[str, Any]:
        """The strategy's trial with the highest average accuracy; of equals, the first by its options."""
        mine = sorted((t for t in self.trials if t["strategy"] == strategy), key=lambda t: json.dumps(t["options"]))
        return max(mine, key=lambda t: t["results"]["average_accuracy"])

    def conclude(self, strategies: Sequence[str]) -> dict[str, Options]:
        """Write down, and return, the best options of each strategy."""
        chosen = {name: self.best(name)["options"] for name in strategies}
        self._write({"best": chosen})
        return chosen

    def _write(self, more: dict[str, Any]) -> None:
        write_text(self.file, json.dumps({"conditions": self.conditions, "trials": self.trials} | more, indent=1))


def combinations(grid: dict[str, list[Any]]) -> Iterator[Options]:
    """Every choice of one value for each option."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))
