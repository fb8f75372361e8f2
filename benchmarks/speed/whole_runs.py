"""Whole runs of CLTS against those of its rivals, in seconds of training."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import Any

from tqdm import tqdm

from avalanche_clts.compare.execution import Task, execute
from avalanche_clts.compare.settings import default_settings
from avalanche_clts.named_streams import parse_stream

_RIVALS = ("er-count", "generative-replay", "expert-gate")
_STREAMS = (("digits", "small-cnn"), ("shapes", "slim-resnet18"))


def measure(*, rounds: int) -> dict[str, dict[str, float]]:
    """Times that a CLTS run takes of each rival's, on both embedded streams; median over seeds."""
    return {f"whole runs, {name}, {network}": _ratios(name, network, rounds) for name, network in _STREAMS}


def _ratios(stream: str, network: str, rounds: int) -> dict[str, float]:
    parsed = parse_stream(stream)
    settings = replace(default_settings(parsed), network=network)
    seconds: dict[str, list[float]] = {name: [] for name in ("clts", *_RIVALS)}
    tasks = [Task(parsed, name, seed, settings, "embedded", "cpu") for seed in range(rounds) for name in seconds]
    with tqdm(total=len(tasks), unit="run", desc=stream) as bar:
        for task, results in execute(tasks):
            seconds[task.strategy].append(results["seconds"]["total"])
            bar.update()
    found: dict[str, Any] = {f"{name}: seconds": median(values) for name, values in seconds.items()}
    for rival in _RIVALS:
        ratio = median(a / b for a, b in zip(seconds["clts"], seconds[rival], strict=True))
        found[f"clts takes ... times as long as {rival}"] = ratio
    return found
