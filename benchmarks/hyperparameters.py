"""Give the package the hyper-parameters that the recorded searches chose.

    python benchmarks/hyperparameters.py

Reads every `benchmarks/results/STREAM/tuning-STREAM.json`, as `clts compare --config benchmarks/experiments/STREAM.toml
--out benchmarks/results/STREAM` writes it, and writes `avalanche_clts/experiments/defaults/STREAM.toml`, whose other
settings stay. A test fails when they disagree.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from avalanche_clts._support.files import write_text
from avalanche_clts.experiments.config import read_fields, to_toml

ROOT = Path(__file__).parents[1]
DEFAULTS = ROOT / "avalanche_clts" / "experiments" / "defaults"


def main() -> None:
    for stream, fields in chosen().items():
        file = DEFAULTS / f"{stream}.toml"
        write_text(file, to_toml({**read_fields(file), **fields}))


def chosen() -> dict[str, dict[str, Any]]:
    """By stream: the winners of its search, by strategy, and whether it looked at test images, as older ones did."""
    folders = [ROOT / "benchmarks" / "results" / file.stem for file in sorted(DEFAULTS.glob("*.toml"))]
    files = {folder.name: folder / f"tuning-{folder.name}.json" for folder in folders}
    searches = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}
    return {
        stream: {
            "searched_on_test_images": not all(f["conditions"]["settings"].get("validation") for f in search.values()),
            "hyperparameters": {name: found["best"] for name, found in search.items()},
        }
        for stream, search in searches.items()
    }


if __name__ == "__main__":
    main()
