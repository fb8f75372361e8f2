"""What Stable Diffusion takes at its real size, without a GPU: a device's memory, counted, and its steps, timed.

    python benchmarks/real_size.py memory --out benchmarks/results/real-size
    python benchmarks/real_size.py steps --out benchmarks/results/real-size

`memory` runs the models on PyTorch's meta device in half precision, by the recipes of `clts pairs`, and counts the
bytes of all tensors that are alive at once. `steps` runs random weights on this CPU in full precision, one image at a
time: seconds of the processor, and what was allocated beside what is counted so.
"""

from __future__ import annotations

import argparse
import json
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import torch
from catalogue import PARTS, numbers
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from avalanche_clts._support.files import write_text
from avalanche_clts.experiments.runs.runner import versions
from avalanche_clts.pair.catalogue import CAPTIONERS, GENERATORS

GIB = 2**30
SIDE = 64  # of the latents of 512x512 pixels
DECODED_AT_ONCE = 4  # images of 512x512, see `avalanche_clts.pair.slices`
PAIRS = ("blip+sd-turbo", "blip+sd15", "blip+sd15-lcm")


class FusedAttention(TorchFunctionMode):
    """Attention as the fused kernels of a device do it: nothing but its result is written down."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is functional.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return function(*args, **(kwargs or {}))


class Alive(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, for as long as they are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = weakref.WeakSet[Any]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage(), given)
        return result

    def _count(self, storage: Any, given: set[int]) -> None:
        if id(storage) in given or storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.now -= size


def peak(run: Callable[[], Any]) -> int:
    """Bytes of the tensors that `run` has at once, beside weights and inputs."""
    with torch.inference_mode(), FusedAttention(), Alive() as alive:
        run()
    return alive.peak


def allocated(run: Callable[[], Any]) -> int:
    """Bytes that `run` has from PyTorch's allocator at once, what kernels take for themselves among them."""
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    now = most = 0
    for event in sorted(profiled.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def on_meta(build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    with torch.device("meta"):
        return build().eval()


def denoiser_inputs(rows: int, unet: Any, device: str, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    latents = torch.randn(rows, 4, SIDE, SIDE, device=device, dtype=dtype)
    text = torch.randn(rows, 77, unet.config.cross_attention_dim, device=device, dtype=dtype)
    return latents, torch.tensor(500, device=device), text


def memory(pair: str) -> dict[str, Any]:
    """GiB of a pair's weights and of what its generator's largest batch takes beside them."""
    captioner, generator = pair.split("+")
    options = GENERATORS[generator].arguments
    parts = PARTS[generator.removesuffix("-lcm")]
    weights = {"captioner": numbers(PARTS[captioner]["whole"]), "generator": sum(map(numbers, parts.values()))}
    unet, vae = (on_meta(parts[name]).half() for name in ("unet", "autoencoder"))
    rows_an_image = 2 if options["guidance_scale"] > 1 else 1
    inputs = {n: denoiser_inputs(rows_an_image * n, unet, "meta", torch.float16) for n in (1, 2, options["batch_size"])}
    denoising = {batch: peak(partial(unet, *given)) for batch, given in inputs.items()}
    latents = torch.randn(DECODED_AT_ONCE, 4, SIDE, SIDE, device="meta", dtype=torch.float16)
    decoding = peak(lambda: vae.decode(latents))
    # The batch's images wait in half precision, and are brought to bytes by way of full precision.
    pixels = options["batch_size"] * 3 * (8 * SIDE) ** 2
    total = 2 * sum(weights.values()) + max(denoising[options["batch_size"]], decoding + 2 * pixels, 10 * pixels)
    return {
        "weights": {name: 2 * count / GIB for name, count in weights.items()},
        "denoising, by images in a batch": {str(batch): value / GIB for batch, value in denoising.items()},
        f"decoding {DECODED_AT_ONCE} images at once": decoding / GIB,
        "batch": options["batch_size"],
        "at most": total / GIB,
        "captions at once": CAPTIONERS[captioner].arguments.get("batch_size", 64),
    }


def steps(rounds: int) -> dict[str, Any]:
    """Seconds of a step of SD 1.5 without guidance (a row an image) and with it (two), and of decoding; and of whole
    images by the two recipes, which are made of these."""
    torch.manual_seed(0)
    works = _works(*(PARTS["sd15"][name]().eval() for name in ("unet", "autoencoder")), "cpu")
    counted = _works(*(on_meta(PARTS["sd15"][name]) for name in ("unet", "autoencoder")), "meta")
    memory = {
        name: {"allocated": allocated(work) / GIB, "counted": peak(counted[name]) / GIB} for name, work in works.items()
    }
    seconds: list[dict[str, float]] = []
    with torch.inference_mode():
        for _ in range(rounds):
            seconds.append({name: _seconds(work) for name, work in works.items()})
    operations = {name: _operations(work) for name, work in counted.items()}
    return {
        "device": _processor(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "rounds": rounds,
        "seconds": {name: median(found[name] for found in seconds) for name in works},
        "seconds an image": {
            recipe: median(_image(found)[recipe] for found in seconds) for recipe in _image(seconds[0])
        },
        "times faster": median(_ratio(found) for found in seconds),
        "TFLOP": {name: count / 1e12 for name, count in operations.items()},
        "times fewer operations": _ratio(operations),
        "GiB": memory,
    }


def _works(unet: Any, vae: Any, device: str) -> dict[str, Callable[[], Any]]:
    one, two = (denoiser_inputs(rows, unet, device, torch.float32) for rows in (1, 2))
    return {
        "a step, 1 row": partial(unet, *one),
        "a step, 2 rows": partial(unet, *two),
        "decoding": partial(vae.decode, one[0]),
    }


def _seconds(work: Callable[[], Any]) -> float:
    start = process_time()
    work()
    return process_time() - start


def _operations(work: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _image(cost: dict[str, float]) -> dict[str, float]:
    """What an image costs by either recipe."""
    return {
        "4 steps of LCM without guidance": 4 * cost["a step, 1 row"] + cost["decoding"],
        "25 steps with guidance": 25 * cost["a step, 2 rows"] + cost["decoding"],
    }


def _ratio(cost: dict[str, float]) -> float:
    few, many = _image(cost).values()
    return many / few


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("memory", "steps"))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=3, help="times that steps are timed")
    arguments = parser.parse_args()
    found = {pair: memory(pair) for pair in PAIRS} if arguments.what == "memory" else steps(arguments.rounds)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out / f"{arguments.what}.json", json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
