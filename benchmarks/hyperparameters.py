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
    for stream, hyperparameters in chosen().items():
        file = DEFAULTS / f"{stream}.toml"
        write_text(file, to_toml({**read_fields(file), "hyperparameters": hyperparameters}))


def chosen() -> dict[str, dict[str, dict[str, Any]]]:
    """The winners of each search, by stream and strategy."""
    folders = [ROOT / "benchmarks" / "results" / file.stem for file in sorted(DEFAULTS.glob("*.toml"))]
    files = {folder.name: folder / f"tuning-{folder.name}.json" for folder in folders}
    searches = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}
    return {stream: {name: found["best"] for name, found in search.items()} for stream, search in searches.items()}


if __name__ == "__main__":
    main()
