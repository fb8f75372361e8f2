"""Times that can be believed on a busy machine: ratios of neighbours, medians of several."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

Work = Callable[[], Any]


def seconds(work: Work, device: str) -> float:
    """How long `work` takes until the device is done with it."""
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def compare(plain: Work, others: dict[str, Work], *, device: str, rounds: int, share: float = 1.0) -> dict[str, Any]:
    """Seconds of each, and how many times faster than `plain` each of the others is: in every round all are timed, one
    right after the other.

    **Arguments:**

    - plain: does only `share` of the others' work, which then counts as if it did all.
    """
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    warm_up = {name: seconds(work, device) for name, work in {"plain": plain, **others}.items()}
    times: dict[str, list[float]] = {name: [] for name in warm_up}
    for _ in range(rounds):
        times["plain"].append(seconds(plain, device) / share)
        for name, work in others.items():
            times[name].append(seconds(work, device))
    ratios = {name: median(p / t for p, t in zip(times["plain"], times[name], strict=True)) for name in others}
    return {
        "seconds": {name: median(values) for name, values in times.items()},
        "times_faster": ratios,
        "first_call_seconds": warm_up,
        **({"peak_gib": torch.cuda.max_memory_allocated(device) / 2**30} if on_gpu else {}),
    }


def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second in a large matrix product."""
    n = 8192 if device != "cpu" else 2048
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    return 2 * n**3 / median(seconds(lambda: a @ b, device) for _ in range(10))


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
