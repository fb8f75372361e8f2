"""Choose the hyper-parameters of every strategy, on a seed that no comparison reports.

    python benchmarks/search.py --out benchmarks/results/search-digits.json

Each strategy gets the same number of trials, six settings of what is its own; the best average accuracy wins and is
written to `avalanche_clts/compare/hyperparameters.json`. Trials that the output file already holds are not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from avalanche_clts import load_pair
from avalanche_clts.compare import Settings
from avalanche_clts.compare.results import write_text
from avalanche_clts.compare.runner import run
from avalanche_clts.compare.strategies import STRATEGIES

SEED = 1000  # comparisons report seeds 0, 1, 2, ...
REPLAY = {"batch_size_mem": [8, 16, 32, 64, 128, 256]}
GRIDS: dict[str, dict[str, list[Any]]] = {
    "clts": {"replay_size": [500, 1000], "router_epochs": [10, 20, 30]},
    "caption-replay": {"replay_size": [200, 500], "batch_size_mem": [32, 64, 128]},
    "er-bytes": REPLAY,
    "er-count": REPLAY,
    "er-63x": REPLAY,
    "er-total": REPLAY,
    "ewc": {"ewc_lambda": [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]},
    "lwf": {"alpha": [0.5, 1.0, 5.0], "temperature": [1.0, 2.0]},
}
HYPERPARAMETERS = Path(__file__).parents[1] / "avalanche_clts" / "compare" / "hyperparameters.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    document = json.loads(out.read_text()) if out.exists() else {}
    document |= {"command": f"python benchmarks/search.py --out {out}", "seed": SEED, "grids": GRIDS}
    trials: list[dict[str, Any]] = document.setdefault("trials", [])
    pair = load_pair("embedded")
    clts: dict[str, Any] | None = None
    for strategy, options in tqdm([(s, options) for s, grid in GRIDS.items() for options in settings(grid)]):
        if not any(t["strategy"] == strategy and t["options"] == options for t in trials):
            if STRATEGIES[strategy].after_clts and clts is None:
                clts = trial("clts", best(trials, "clts"), pair)
            result = trial(strategy, options, pair, clts)
            kept = {name: result[name] for name in ("average_accuracy", "seconds")}
            trials.append({"strategy": strategy, "options": options} | kept)
            write_text(out, json.dumps(document, indent=1))
    document["best"] = {strategy: best(trials, strategy) for strategy in GRIDS}
    write_text(out, json.dumps(document, indent=1))
    write_text(HYPERPARAMETERS, json.dumps({"digits": document["best"]}, indent=1) + "\n")
    print(json.dumps(document["best"], indent=1))


def trial(strategy: str, options: dict[str, Any], pair: Any, clts: dict[str, Any] | None = None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as logs:
        return run(
            "digits", strategy, SEED, settings=Settings(tuned={strategy: options}), pair=pair, device="cpu",
            tensorboard=Path(logs), clts=clts,
        )  # fmt: skip


def settings(grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def best(trials: list[dict[str, Any]], strategy: str) -> dict[str, Any]:
    found = max((t for t in trials if t["strategy"] == strategy), key=lambda t: t["average_accuracy"])
    options: dict[str, Any] = found["options"]
    return options


if __name__ == "__main__":
    main()
