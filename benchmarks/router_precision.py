"""What training the router in bfloat16, channels last, costs in accuracy and gains in time.

    python benchmarks/router_precision.py --out benchmarks/results/router

CLTS with the embedded pair, each seed twice: with the router trained as it comes, and in float32 as its network stands.
On a processor without instructions for bfloat16 the former is channels last alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, median
from typing import Any

from torch import Tensor, nn
from tqdm import tqdm

from avalanche_clts import load_pair, routers
from avalanche_clts._support.files import write_text
from avalanche_clts.experiments import experiment_of
from avalanche_clts.experiments.runs.runner import run, versions
from avalanche_clts.streams.named import parse_stream

RUNS = {
    "digits": {"seeds": 12, "hyperparameters": {"clts": {"replay_size": 300, "router_epochs": 20}}},
    "shapes": {"seeds": 3, "hyperparameters": {"clts": {"replay_size": 500, "router_epochs": 10}}},
}


@contextmanager
def as_it_stands(
    network: nn.Module, compute: Callable[[Tensor], Tensor], example: Tensor
) -> Iterator[Callable[[Tensor], Tensor]]:
    yield compute


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    out = parser.parse_args().out
    pair = load_pair("embedded")
    pair.generator.generate(["warm-up"], [0])
    document: dict[str, Any] = {"command": f"python benchmarks/router_precision.py --out {out}", "versions": versions()}
    ways = {"as it comes": routers.fast_training, "float32": as_it_stands}
    for name, options in RUNS.items():
        stream = parse_stream(name)
        experiment = experiment_of(name, hyperparameters=options["hyperparameters"])
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for seed in tqdm(range(options["seeds"]), desc=name, unit="seed"):
            for way, training in ways.items():
                routers.fast_training = training
                results = run(experiment, "clts", seed, stream=stream, pair=pair)
                found[way].append(
                    {
                        "accuracy": results["average_accuracy"],
                        "router": results["router_accuracy"],
                        "seconds": results["seconds"]["router"],
                    }
                )
        ratio = median(a["seconds"] / b["seconds"] for a, b in zip(*(found[way] for way in ways), strict=True))
        document[name] = {
            "settings": options["hyperparameters"],
            "mean_accuracy": {way: mean(r["accuracy"] for r in runs) for way, runs in found.items()},
            "router_seconds_over_float32": ratio,
            "runs": found,
        }
        write_text(out / "precision.json", json.dumps(document, indent=1) + "\n")
    print(json.dumps({k: v for k, v in document.items() if k in RUNS}, indent=1))


if __name__ == "__main__":
    main()
