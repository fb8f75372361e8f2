"""CLTS with early stopping (patience 3 over 12 epochs) on a validation stream, against without, on Split Digits.

python benchmarks/early_stopping.py --out benchmarks/results/early-stopping/early-stopping.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from avalanche.benchmarks import benchmark_with_validation_stream
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import EarlyStoppingPlugin, EvaluationPlugin

from avalanche_clts import CLTS, RoutedModel, clts_metrics, load_pair, split_digits
from avalanche_clts.networks import small_cnn

STOPPING = {
    "never": None,
    "accuracy": ("Top1_Acc_Stream", "max"),
    "loss": ("Loss_Stream", "min"),
}


def measure(seed: int, watched: str, patience: int, batch_size: int, validation: float) -> dict[str, Any]:
    """Accuracies in the end, in percent, and epochs of each experience."""
    RNGManager.set_random_seeds(seed)
    benchmark = benchmark_with_validation_stream(split_digits(5, seed=seed), validation, shuffle=True, seed=seed)
    valid = benchmark.streams["valid"]

    def network() -> torch.nn.Module:
        return small_cnn(10, channels=1, size=(8, 8))

    model = RoutedModel(head=network(), router=network())
    plugins = []
    if STOPPING[watched] is not None:
        metric, mode = STOPPING[watched]
        plugins = [EarlyStoppingPlugin(patience, "valid", metric, mode)]
    clts = CLTS(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        pair=load_pair("embedded"),
        replay_size=1000,
        router_epochs=20,
        train_mb_size=batch_size,
        train_epochs=12,
        eval_mb_size=256,
        eval_every=1,
        plugins=plugins,
        evaluator=EvaluationPlugin(
            accuracy_metrics(stream=True), loss_metrics(stream=True), clts_metrics(samples=False)
        ),
    )
    epochs = []
    for experience, held_out in zip(benchmark.train_stream, valid, strict=True):
        clts.train(experience, eval_streams=[[held_out]])
        epochs.append(clts.clock.train_exp_epochs)
    metrics = clts.eval(benchmark.test_stream)
    names = {"accuracy": "Top1_Acc_Stream", "router": "RouterAccuracy_Stream", "oracle": "OracleAccuracy_Stream"}
    figures = {k: 100 * metrics[f"{name}/eval_phase/test_stream/Task000"] for k, name in names.items()}
    return {"seed": seed, "watched": watched, **figures, "epochs": epochs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--validation", type=float, default=0.2, help="share of each experience's images")
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.seeds):
        for watched in STOPPING:
            rows.append(measure(seed, watched, 3, arguments.batch_size, arguments.validation))
            print(rows[-1])
    means = {
        watched: {
            k: statistics.mean(r[k] for r in rows if r["watched"] == watched) for k in ("accuracy", "router", "oracle")
        }
        for watched in STOPPING
    }
    command = (
        f"python benchmarks/early_stopping.py --seeds {arguments.seeds} --batch-size {arguments.batch_size} "
        f"--validation {arguments.validation} --out {arguments.out}"
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"command": command, "means": means, "runs": rows}, indent=1) + "\n")
    print(means)


if __name__ == "__main__":
    main()
