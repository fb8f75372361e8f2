"""How fast captioning, generation and whole runs are.

    python benchmarks/speed --out benchmarks/results/speed
    python benchmarks/speed --device cuda --out benchmarks/results/speed

On the CPU: the embedded pair, and whole runs. On a GPU: random weights at the sizes of BLIP, SD 1.5 and SD-Turbo.
Writes `DEVICE.json` and `DEVICE.txt` to the folder; every figure is a ratio of times within one round.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import stages
import torch
import whole_runs
from architectures import save_captioner, save_generator

from avalanche_clts import load_pair
from avalanche_clts.compare.runner import versions
from avalanche_clts.serialization import write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=5, help="times that everything is timed")
    parser.add_argument(
        "--sizes", nargs="+", help="of random-weight models (default: sd15 sd-turbo blip on a GPU, small)"
    )
    parser.add_argument("--weights", type=Path, default=Path(tempfile.gettempdir()) / "clts-speed", metavar="DIR")
    parser.add_argument("--no-whole-runs", action="store_true", help="leave out the runs through whole streams")
    arguments = parser.parse_args()
    on_cpu = torch.device(arguments.device).type == "cpu"
    found: dict[str, Any] = {
        "device": device_name(arguments.device),
        "versions": versions(),
        "command": shlex.join(["python", "benchmarks/speed", *sys.argv[1:]]),
        "rounds": arguments.rounds,
        "stages": {},
    }
    for title, figures in measured_stages(arguments, on_cpu):
        found["stages"][title] = figures
        _write(found, arguments)
    if on_cpu and not arguments.no_whole_runs:
        found["whole_runs"] = whole_runs.measure(rounds=min(3, arguments.rounds))
        _write(found, arguments)
    print(format_text(found))


def measured_stages(arguments: argparse.Namespace, on_cpu: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Title and figures of one stage after the other, as they are measured."""
    device, rounds = arguments.device, arguments.rounds
    if on_cpu:
        yield from stages.embedded(load_pair("embedded", device=device), rounds=rounds).items()
    sizes = arguments.sizes or (["small"] if on_cpu else ["blip", "sd15", "sd-turbo"])
    for size in sizes:
        if size in ("blip", "small"):
            folder = save_captioner(size, arguments.weights / f"captioner-{size}", device=device)
            yield f"captioning, {size}", stages.captioning(folder, device=device, rounds=rounds)
        if size in ("sd15", "sd-turbo", "small"):
            folder = save_generator(size, arguments.weights / f"generator-{size}", device=device)
            yield f"generation, {size}", stages.generation(folder, size, device=device, rounds=rounds)
            yield f"denoiser, {size}", stages.denoiser(folder, device=device, compile=False)
            if not on_cpu:
                yield f"denoiser, {size}, compiled", stages.denoiser(folder, device=device, compile=True)
    if {"sd15", "sd-turbo"} <= set(sizes):
        folders = (arguments.weights / f"generator-{size}" for size in ("sd15", "sd-turbo"))
        title = "generation for 32x32, sd-turbo against sd15 with 50 steps"
        yield title, stages.small_images(*folders, device=device, rounds=rounds)


def _write(found: dict[str, Any], arguments: argparse.Namespace) -> None:
    """After each stage: whoever stops the measuring keeps what was measured."""
    name = torch.device(arguments.device).type
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out / f"{name}.json", json.dumps(found, indent=1) + "\n")
    write_text(arguments.out / f"{name}.txt", format_text(found) + "\n")


def device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def format_text(found: dict[str, Any]) -> str:
    lines = [f"device: {found['device']}; medians of {found['rounds']} rounds"]
    for title, stage in found["stages"].items():
        lines += ["", title]
        if "times_faster" in stage:
            for name, ratio in stage["times_faster"].items():
                rate = stage["items"] / stage["seconds"][name]
                lines.append(f"  {name:52}{ratio:8.1f} x the plain loop {rate:10.1f} a second")
            if "peak_gib" in stage:
                lines.append(f"  {'memory of the device at most, GiB':52}{stage['peak_gib']:8.1f}")
        else:
            lines += [f"  {name:52}{value:12.3f}" for name, value in stage.items()]
    for title, runs in found.get("whole_runs", {}).items():
        lines += ["", title, *(f"  {name:52}{value:12.2f}" for name, value in runs.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
