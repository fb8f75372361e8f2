"""What an experience costs when few or many came before it: seconds, memory, bytes kept; and a soak of 200 experiences.

    python benchmarks/growth.py --out benchmarks/results/growth
    python benchmarks/growth.py --soak --out benchmarks/results/soak

Growth: streams of 5, 10, 20 and 50 experiences of two classes each, a class being a kind of shape in a colour ("red
star"), with `replay_size` fixed. Soak: 200 small experiences in which the same twenty classes come again and again.
Each stream runs in a process of its own, whose memory and open files are measured after every experience. Seconds are
of the processor, summed over threads: what else runs on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from avalanche.benchmarks import nc_benchmark, ni_benchmark
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import EvaluationPlugin
from matplotlib.figure import Figure
from torch.nn import CrossEntropyLoss, Flatten, Linear, Sequential
from torch.optim import Adam
from torchvision.transforms import ToTensor

from avalanche_clts import CLTS, RoutedModel, load_pair
from avalanche_clts._support.files import write_text
from avalanche_clts.footprint import memory_bytes
from avalanche_clts.metrics import synthesis_seconds
from avalanche_clts.networks import cnn
from avalanche_clts.streams import embedded_shapes as shapes
from avalanche_clts.streams.benchmarks import ImageDataset

LENGTHS = (5, 10, 20, 50)
SOAK = 200
KINDS = list(product(range(len(shapes.CLASS_NAMES)), range(len(shapes.COLOURS))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(run(arguments.one, arguments.soak)))
        return
    lengths = (SOAK,) if arguments.soak else LENGTHS
    runs = {length: in_a_process(length, arguments.soak) for length in lengths}
    command = "python benchmarks/growth.py " + " ".join(sys.argv[1:])
    arguments.out.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"command": command, "runs": runs, **summary(runs)}
    write_text(arguments.out / "growth.json", json.dumps(document, indent=1) + "\n")
    figure(runs).savefig(arguments.out / "growth.png", dpi=110)
    print(json.dumps(summary(runs), indent=1))


def in_a_process(length: int, soak: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", str(length), "--out", ".", *(["--soak"] if soak else [])]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def run(length: int, soak: bool) -> dict[str, Any]:
    """Train through a stream of that many experiences, and measure after each."""
    RNGManager.set_random_seeds(0)
    benchmark = recurring(length) if soak else coloured_shapes(length)
    num_classes = benchmark.n_classes
    head = Sequential(Flatten(), Linear(3 * shapes.SIDE**2, num_classes)) if soak else cnn(num_classes, channels=3)
    model = RoutedModel(head=head, router=cnn(64, channels=3))
    strategy = CLTS(
        model=model,
        optimizer=Adam(model.parameters(), lr=2e-3),
        criterion=CrossEntropyLoss(),
        pair=load_pair("embedded"),
        captions_per_class=1 if soak else 20,
        replay_size=SOAK if soak else 500,
        router_epochs=1 if soak else 5,
        train_epochs=1 if soak else 5,
        train_mb_size=32,
        eval_mb_size=256,
        evaluator=EvaluationPlugin(accuracy_metrics(stream=True)),
    )
    seconds, resident, files, kept = [], [], [], []
    for experience in benchmark.train_stream:
        begun = time.process_time()
        strategy.train(experience, eval_streams=[])
        seconds.append(round(time.process_time() - begun, 3))
        resident.append(resident_bytes())
        files.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))
        kept.append(memory_bytes(strategy))
    metrics = {} if soak else strategy.eval(benchmark.test_stream)
    accuracy = next((value for name, value in metrics.items() if name.startswith("Top1_Acc_Stream")), None)
    return {
        "experiences": length,
        "accuracy": accuracy,
        "seconds": seconds,
        "seconds_by_kind": {kind: round(value, 1) for kind, value in synthesis_seconds(strategy).items()},
        "resident_bytes": resident,
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "open_files": files,
        "bytes_kept": kept,
    }


def coloured_shapes(length: int) -> Any:
    """Two classes an experience, each a kind of shape in a colour: 60 images to train on, 15 to test on."""
    kinds = random.Random(0).sample(KINDS, 2 * length)
    names = [f"{list(shapes.COLOURS)[colour]} {shapes.CLASS_NAMES[shape]}" for shape, colour in kinds]

    def images(first: int, count: int) -> ImageDataset:
        pictures, targets = [], []
        for target, (shape, colour) in enumerate(kinds):
            for i in range(count):
                seed = shapes.STREAM_SEED + 10_000 * target + first + i
                _, look = shapes.draw(shape, seed)
                look = shapes.Look(**{**vars(look), "colour": colour})
                pictures.append(shapes.draw(shape, seed, look=look)[0])
                targets.append(target)
        return ImageDataset(pictures, targets, names)

    transform = ToTensor()
    return nc_benchmark(
        images(0, 60),
        images(5000, 15),
        n_experiences=length,
        task_labels=False,
        seed=0,
        train_transform=transform,
        eval_transform=transform,
    )


def recurring(length: int) -> Any:
    """Ten images an experience, of the same twenty classes."""
    train, test = shapes.stream_shapes()
    few = ImageDataset(train.images[: 10 * length], train.targets[: 10 * length], shapes.CLASS_NAMES)
    seen = ImageDataset(test.images, test.targets, shapes.CLASS_NAMES)
    transform = ToTensor()
    return ni_benchmark(
        few, seen, n_experiences=length, task_labels=False, seed=0, train_transform=transform, eval_transform=transform
    )


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def summary(runs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Totals; how total time grows with the experiences; how the last tenth of the longest stream is to its first."""
    lengths, totals = list(runs), [sum(r["seconds"][1:]) for r in runs.values()]  # one head needs no router
    found: dict[str, Any] = {
        "total_seconds": dict(zip(lengths, np.round(totals, 1).tolist(), strict=True)),
        "accuracy": {length: r["accuracy"] for length, r in runs.items()},
        "peak_bytes": {length: r["peak_bytes"] for length, r in runs.items()},
        "bytes_kept": {length: sum(r["bytes_kept"][-1].values()) for length, r in runs.items()},
    }
    if len(runs) > 1:
        steps = [length - 1 for length in lengths]
        found["predicted_seconds"] = {
            length: round(totals[0] * (length - 1) / (lengths[0] - 1), 1) for length in lengths
        }
        found["exponent_of_total_time"] = round(float(np.polyfit(np.log(steps), np.log(totals), 1)[0]), 3)
    longest = runs[max(runs)]
    tenth = max(2, len(longest["seconds"]) // 10)
    for name in ("seconds", "resident_bytes", "open_files"):
        values = longest[name][1:]
        found[f"{name}_last_tenth_over_first"] = round(float(np.median(values[-tenth:]) / np.median(values[:tenth])), 3)
    return found


def figure(runs: dict[int, dict[str, Any]]) -> Figure:
    """Seconds, memory of the process and open files after each experience."""
    drawing = Figure(figsize=(11, 3.4), layout="constrained")
    panels = (
        ("seconds", "processor seconds an experience", 1.0),
        ("resident_bytes", "memory of the process (MB)", 1e-6),
        ("open_files", "open files", 1.0),
    )
    for axes, (name, label, scale) in zip(drawing.subplots(1, len(panels)), panels, strict=True):
        for length, r in runs.items():
            axes.plot(range(1, length + 1), [scale * value for value in r[name]], label=f"{length} experiences")
        axes.set_xlabel("experience")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return drawing


if __name__ == "__main__":
    main()
