"""Whole runs of CLTS against those of its rivals, in seconds of training."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from tqdm import tqdm

from avalanche_clts.experiments import experiment_of
from avalanche_clts.experiments.runs.execution import Task, execute
from avalanche_clts.streams.named import parse_stream

_RIVALS = ("er-count", "generative-replay", "expert-gate")
_STREAMS = (("digits", "small-cnn"), ("shapes", "slim-resnet18"))


def planned(*, rounds: int) -> Iterator[tuple[str, Iterator[dict[str, float]]]]:
    """Title of one comparison after the other, and its figures after each round: seconds of every strategy and how many
    times as long as each rival CLTS takes, medians over rounds, which have seeds of their own."""
    for stream, network in _STREAMS:
        yield f"whole runs, {stream}, {network}", _figures(stream, network, rounds)


def _figures(stream: str, network: str, rounds: int) -> Iterator[dict[str, float]]:
    parsed = parse_stream(stream)
    experiment = experiment_of(stream, network=network)
    seconds: dict[str, list[float]] = {name: [] for name in ("clts", *_RIVALS)}
    for seed in tqdm(range(rounds), unit="round", desc=stream):
        tasks = [Task(experiment, name, seed, parsed) for name in seconds]
        for task, results in execute(tasks):
            seconds[task.strategy].append(results["seconds"]["total"])
        found: dict[str, float] = {"rounds": seed + 1}
        found |= {f"{name}: seconds": median(values) for name, values in seconds.items()}
        for rival in _RIVALS:
            ratio = median(a / b for a, b in zip(seconds["clts"], seconds[rival], strict=True))
            found[f"clts takes ... times as long as {rival}"] = ratio
        yield found
