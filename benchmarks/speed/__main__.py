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
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import stages
import torch
import whole_runs
from architectures import CAPTIONERS, GENERATORS

from avalanche_clts import load_pair
from avalanche_clts._support.files import write_text
from avalanche_clts.experiments.runs.runner import versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=5, help="times that everything is timed")
    parser.add_argument(
        "--sizes", nargs="+", help="of random-weight models (default: sd15 sd-turbo blip on a GPU, small)"
    )
    parser.add_argument(
        "--only",
        metavar="TEXT",
        default="",
        help="only the stages whose titles begin so; DIR keeps what it has of others",
    )
    parser.add_argument("--weights", type=Path, default=Path(tempfile.gettempdir()) / "clts-speed", metavar="DIR")
    parser.add_argument("--no-whole-runs", action="store_true", help="leave out the runs through whole streams")
    arguments = parser.parse_args()
    on_cpu = torch.device(arguments.device).type == "cpu"
    found = _begun(arguments)
    for title, measure in planned_stages(arguments, on_cpu):
        if title.startswith(arguments.only):
            found["stages"][title] = measure() | {"rounds": arguments.rounds}
            _write(found, arguments)
    for title, figures_by_round in whole_runs.planned(rounds=min(3, arguments.rounds)) if on_cpu else ():
        if title.startswith(arguments.only) and not arguments.no_whole_runs:
            for figures in figures_by_round:
                found["whole_runs"][title] = figures
                _write(found, arguments)
    print(format_text(found))


def _begun(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the folder holds already, if it was measured on the same device with the same versions."""
    begun = {
        "device": device_name(arguments.device),
        "versions": versions(),
        "command": shlex.join(["python", "benchmarks/speed", *sys.argv[1:]]),
        "stages": {},
        "whole_runs": {},
    }
    file = _file(arguments)
    if arguments.only and file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        if any(before[name] != begun[name] for name in ("device", "versions")):
            raise SystemExit(
                f"{file} was measured on {before['device']} with {before['versions']}; choose another --out"
            )
        return before | {"command": f"{before['command']} ; {begun['command']}"}
    return begun


def planned_stages(arguments: argparse.Namespace, on_cpu: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Title of one stage after the other, and what measures it."""
    timed = {"device": arguments.device, "rounds": arguments.rounds}
    if on_cpu:
        pair = load_pair("embedded", device=arguments.device)
        yield "captioning, embedded", partial(stages.embedded_captioning, pair, rounds=arguments.rounds)
        yield "generation, embedded", partial(stages.embedded_generation, pair, rounds=arguments.rounds)
    sizes = arguments.sizes or (["small"] if on_cpu else ["blip", "sd15", "sd-turbo"])
    for size in sizes:
        if size in CAPTIONERS:
            yield f"captioning, {size}", partial(stages.captioning, size, arguments.weights, **timed)
        if size in GENERATORS:
            yield f"generation, {size}", partial(stages.generation, size, arguments.weights, **timed)
            denoiser = partial(stages.denoiser, size, arguments.weights, device=arguments.device)
            yield f"denoiser, {size}", partial(denoiser, compile=False)
            if not on_cpu:
                yield f"denoiser, {size}, compiled", partial(denoiser, compile=True)
    for size in sizes:
        if size in ("sd15", "small"):
            title = f"generation, {size}, in 4 steps of LCM against 25 with guidance"
            yield title, partial(stages.few_steps, size, arguments.weights, **timed)
    if {"sd15", "sd-turbo"} <= set(sizes):
        title = "generation for 32x32, sd-turbo against sd15 with 50 steps"
        yield title, partial(stages.small_images, arguments.weights, **timed)


def _file(arguments: argparse.Namespace) -> Path:
    return Path(arguments.out) / f"{torch.device(arguments.device).type}.json"


def _write(found: dict[str, Any], arguments: argparse.Namespace) -> None:
    """After each stage: whoever stops the measuring keeps what was measured."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_text(_file(arguments), json.dumps(found, indent=1) + "\n")
    write_text(_file(arguments).with_suffix(".txt"), format_text(found) + "\n")


def device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def format_text(found: dict[str, Any]) -> str:
    lines = [f"device: {found['device']}"]
    for title, stage in found["stages"].items():
        lines += ["", f"{title}; medians of {stage['rounds']} rounds" if "times_faster" in stage else title]
        if "times_faster" in stage:
            for name, ratio in stage["times_faster"].items():
                rate = stage["items"] / stage["seconds"][name]
                line = f"  {name:52}{ratio:8.1f} x the plain loop {rate:10.1f} a second"
                if "TFLOP of the denoiser" in stage:
                    # Text encoder, decoding and all else count against it.
                    tflops = stage["TFLOP of the denoiser"] / stage["seconds"][name]
                    share = 100 * tflops / stage["TFLOP/s of a matrix product"]
                    line += f", the denoiser at {share:.0f} % of a matrix product's rate or more"
                lines.append(line)
            if "peak_gib" in stage:
                lines.append(f"  {'memory of the device at most, GiB':52}{stage['peak_gib']:8.1f}")
        else:
            lines += [f"  {name:52}{value:12.3f}" for name, value in stage.items()]
    for title, runs in found.get("whole_runs", {}).items():
        lines += ["", title, *(f"  {name:52}{value:12.2f}" for name, value in runs.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
