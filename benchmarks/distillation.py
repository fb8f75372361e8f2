"""How much faster the distilled embedded generator is than the one before.

    python benchmarks/distillation.py

Both generate the same prompts, in turns; prints the median ratio of their times. The one before is not part of the
repository; benchmarks/pairs/README.md has the command that makes it.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from avalanche_clts import load_pair

UNDISTILLED = Path(__file__).parent / "pairs" / "undistilled"
ROUNDS = 3
PROMPTS = ["a red star on white"] * 250


def main() -> None:
    if not UNDISTILLED.exists():
        raise SystemExit(
            f"{UNDISTILLED} is missing; make it with: clts pretrain --out {UNDISTILLED} --distillation-steps 0"
        )
    generators = [load_pair(name).generator for name in (UNDISTILLED, "embedded")]
    for generator in generators:
        generator.generate(PROMPTS[:1], [0])  # loads the weights
    ratios = []
    for _ in range(ROUNDS):
        seconds = []
        for generator in generators:
            begun = time.perf_counter()
            generator.generate(PROMPTS, range(len(PROMPTS)))
            seconds.append(time.perf_counter() - begun)
        ratios.append(seconds[0] / seconds[1])
        print(f"undistilled: {seconds[0]:.1f} s, distilled: {seconds[1]:.1f} s for {len(PROMPTS)} images")
    print(f"median ratio: {median(ratios):.2f}")


if __name__ == "__main__":
    main()
