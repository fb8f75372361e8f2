"""What multiplying in bfloat16 gains the embedded generator on this processor.

    python benchmarks/bfloat16.py

Prints images a second with and without, and the median of their ratios over pairs of calls, one right after the other.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from statistics import median

from avalanche_clts import load_pair
from avalanche_clts.pair import generators
from avalanche_clts.pair.precision import fast_multiplication

IMAGES, PAIRS = 250, 5


def main() -> None:
    generator = load_pair("embedded").generator
    prompts, seeds = ["a handwritten seven upright"] * IMAGES, list(range(IMAGES))
    generator.generate(prompts, seeds)
    rates: dict[str, list[float]] = {"full": [], "bfloat16": []}
    for _ in range(PAIRS):
        for name, context in (("full", lambda device: nullcontext()), ("bfloat16", fast_multiplication)):
            generators.fast_multiplication = context  # type: ignore[assignment]
            start = time.perf_counter()
            generator.generate(prompts, seeds)
            rates[name].append(IMAGES / (time.perf_counter() - start))
    ratio = median(fast / full for full, fast in zip(rates["full"], rates["bfloat16"], strict=True))
    print(f"full precision: {median(rates['full']):.0f} images/s, bfloat16: {median(rates['bfloat16']):.0f} images/s")
    print(f"median ratio: {ratio:.2f}")


if __name__ == "__main__":
    main()
