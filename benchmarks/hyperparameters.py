"""Give the package the hyper-parameters that the recorded searches chose.

    python benchmarks/hyperparameters.py

Reads every `benchmarks/results/STREAM/tuning-STREAM.json`, as `clts compare --tune --out benchmarks/results/STREAM`
writes it, and writes `avalanche_clts/compare/hyperparameters.json`. A test fails when they disagree.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from avalanche_clts._support.files import write_text

ROOT = Path(__file__).parents[1]
HYPERPARAMETERS = ROOT / "avalanche_clts" / "compare" / "hyperparameters.json"


def main() -> None:
    write_text(HYPERPARAMETERS, json.dumps(chosen(), indent=1) + "\n")


def chosen() -> dict[str, dict[str, dict[str, Any]]]:
    """The winners of each search, by stream and strategy."""
    files = sorted((ROOT / "benchmarks" / "results").glob("*/tuning-*.json"))
    searches = {file.stem.removeprefix("tuning-"): json.loads(file.read_text(encoding="utf-8")) for file in files}
    return {stream: {name: found["best"] for name, found in search.items()} for stream, search in searches.items()}


if __name__ == "__main__":
    main()
