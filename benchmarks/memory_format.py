"""What the order in memory gains the networks of a comparison on this processor: channels last against first.

    python benchmarks/memory_format.py --out benchmarks/results/memory-format

Writes `memory-format.json`: seconds of the processor for a training step and for an evaluation of a batch, on one
thread, medians over alternating calls, and their ratios.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from avalanche_clts._support.files import write_text
from avalanche_clts.experiments.runs.runner import versions
from avalanche_clts.images.formats import ImageFormat
from avalanche_clts.networks import network_for
from avalanche_clts.pair.precision import bfloat16_instructions

ORDERS = {"first": torch.contiguous_format, "last": torch.channels_last}
CLASSES = 10
CASES = {  # network, side and channels of the images, images in a batch
    "digits": ("small-cnn", 8, 1, 32),
    "mnist": ("small-cnn", 28, 1, 64),
    "shapes": ("cnn", 32, 3, 32),
    "cifar10": ("cnn", 32, 3, 128),
    "photographs of 64 pixels": ("cnn", 64, 3, 64),
    "cifar10, slim-resnet18": ("slim-resnet18", 32, 3, 32),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {case: measured(*settings, rounds=arguments.rounds) for case, settings in CASES.items()}
    about = {
        "command": "python benchmarks/memory_format.py --out benchmarks/results/memory-format",
        "bfloat16 instructions of the processor": bfloat16_instructions(),
        "versions": versions(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out / "memory-format.json", json.dumps(about | {"seconds": found}, indent=1) + "\n")
    for case, seconds in found.items():
        print(f"{case}: training {seconds['train']['first / last']:.2f} times as fast, evaluation ", end="")
        print(f"{seconds['eval']['first / last']:.2f}")


def measured(name: str, side: int, channels: int, batch: int, *, rounds: int) -> dict[str, dict[str, float]]:
    """Medians of seconds and of the ratios of the calls of a round, of training and of evaluation."""
    x, y = torch.rand(batch, channels, side, side), torch.randint(CLASSES, (batch,))
    make = network_for(ImageFormat("pil", (side, side), "RGB" if channels == 3 else "L"), name)
    networks = {order: make(CLASSES).to(memory_format=layout) for order, layout in ORDERS.items()}
    spent: dict[str, dict[str, list[float]]] = {phase: {order: [] for order in ORDERS} for phase in ("train", "eval")}
    for _ in range(rounds):
        for order, network in networks.items():
            spent["train"][order].append(seconds(lambda network=network: train(network, x, y)))
            with torch.no_grad():
                spent["eval"][order].append(seconds(lambda network=network: network.eval()(x)))
    return {phase: _summary(of_phase) for phase, of_phase in spent.items()}


def train(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """Forward and backward."""
    network.train().zero_grad()
    cross_entropy(network(x), y).backward()


def seconds(call: Callable[[], object]) -> float:
    """Of the processor, so that other work beside it counts little."""
    start = time.process_time()
    call()
    return time.process_time() - start


def _summary(spent: dict[str, list[float]]) -> dict[str, float]:
    ratios = [first / last for first, last in zip(spent["first"], spent["last"], strict=True)]
    return {order: round(median(times), 5) for order, times in spent.items()} | {
        "first / last": round(median(ratios), 2)
    }


if __name__ == "__main__":
    main()
