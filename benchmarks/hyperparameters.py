"""Give the package the hyper-parameters that the recorded searches chose.

    python benchmarks/hyperparameters.py

Reads every `benchmarks/results/STREAM/tuning-STREAM.json`, as `clts compare --config benchmarks/experiments/STREAM.toml
--out benchmarks/results/STREAM` writes it, and writes `avalanche_clts/experiments/defaults/STREAM.toml`, whose other
settings stay. Strategies that have not been searched since have what an older search had found, of `older-search.json`
beside it. A test fails when they disagree.
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
    """By stream: the winners of its search, by strategy, and whose are of an older one, which looked at test images."""
    return {file.stem: _chosen(ROOT / "benchmarks" / "results" / file.stem) for file in sorted(DEFAULTS.glob("*.toml"))}


def _chosen(folder: Path) -> dict[str, Any]:
    found = {name: search["best"] for name, search in _read(folder / f"tuning-{folder.name}.json").items()}
    older = _read(folder / "older-search.json")["hyperparameters"]
    older = {name: options for name, options in older.items() if options and name not in found}
    return {"searched_on_test_images": sorted(older), "hyperparameters": {**found, **older}}


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
