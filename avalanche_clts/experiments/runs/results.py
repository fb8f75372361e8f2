"""What finished experiments leave: `results.json`, `ablations.json`, and the same as CSV."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..._support.files import read_object
from ..config import recorded_settings
from ..experiment import PAIR_FIELDS
from ..rows import ROWS, Results

RESULTS_FILE = "results.json"
ABLATIONS_FILE = "ablations.json"
MEMORY_KINDS = ("captions", "exemplars", "heads", "router", "network")
SECONDS_KINDS = ("total", "captioning", "generation", "router", "evaluation")
_SCALARS = (
    "average_accuracy",
    "forgetting",
    "backward_transfer",
    "router_accuracy",
    "oracle_accuracy",
)
_MATRICES = ("accuracy_matrix", "router_confusion", "class_accuracy", "pair_fit")


def to_csv(runs: Iterable[Results]) -> str:
    """One line a run: all figures, and matrices as JSON. What is unknown or does not apply is empty."""
    text = io.StringIO()
    header = ["stream", "strategy", "seed", *_SCALARS]
    header += [f"memory_bytes.{kind}" for kind in MEMORY_KINDS] + [f"seconds.{kind}" for kind in SECONDS_KINDS]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*header, *_MATRICES])
    for run in runs:
        row = [run["stream"], run["strategy"], run["seed"], *(run[name] for name in _SCALARS)]
        row += [run["memory_bytes"][kind] for kind in MEMORY_KINDS]
        row += [run["seconds"].get(kind) for kind in SECONDS_KINDS]
        writer.writerow([*row, *(json.dumps(run.get(name)) for name in _MATRICES)])
    return text.getvalue()


def ablations_to_csv(document: dict[str, Any]) -> str:
    """The content of an `ablations.json`, one line a run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    memory = [f"memory_bytes.{kind}" for kind in MEMORY_KINDS]
    writer.writerow(["ablation", "variant", "x", "default", "stream", "seed", *_SCALARS, *memory, "class_accuracy"])
    for name, ablation in document["ablations"].items():
        for variant in ablation["variants"]:
            for run in variant["runs"]:
                row = [name, variant["label"], variant["x"], variant["default"], run["stream"], run["seed"]]
                row += [*(run[scalar] for scalar in _SCALARS), *(run["memory_bytes"][kind] for kind in MEMORY_KINDS)]
                writer.writerow([*row, json.dumps(run["class_accuracy"])])
    return text.getvalue()


def by_strategy(runs: Sequence[Results]) -> dict[str, list[Results]]:
    """Runs of one stream grouped by strategy, in the order of first appearance."""
    groups: dict[str, list[Results]] = {}
    for run in runs:
        groups.setdefault(run["strategy"], []).append(run)
    return groups


def merged(documents: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """One document of the runs of several `results.json`; what they do not share is told apart by `names`.

    It has no area under the curve of accuracy and memory, which is that of one comparison's strategies.

    Raises `ValueError` if two of them hold the same run with different outcomes, or runs of one stream that are not to
    be compared: under different settings, or with different pairs.
    """
    if len(documents) == 1:
        return documents[0]
    for (one, name), (other, other_name) in itertools.combinations(zip(documents, names, strict=True), 2):
        differing = _differing(one, other)
        if differing:
            raise ValueError(
                f"{name} and {other_name} hold runs of {one['arguments']['stream']} that differ in "
                f"{', '.join(differing)}; bring together what was run alike"
            )
    held_out = [document.get("settings", {}).get("validation", 0.0) for document in documents]
    if len(set(held_out)) > 1:
        raise ValueError(
            f"{', '.join(names)} are not measured on the same kind of images (validation is "
            f"{', '.join(map(str, held_out))}); bring together what was measured alike"
        )
    runs: dict[tuple[str, str, int], tuple[Results, str]] = {}
    for document, name in zip(documents, names, strict=True):
        for run in document["runs"]:
            key = run["stream"], run["strategy"], run["seed"]
            other, where = runs.setdefault(key, (run, name))
            if other["accuracy_matrix"] != run["accuracy_matrix"]:
                raise ValueError(
                    f"{where} and {name} both hold {key[1]} on {key[0]} with seed {key[2]}, with different outcomes; "
                    "give the one that counts"
                )
    first = {name: value for name, value in documents[0].items() if name != "accuracy_memory_area"}
    made: list[dict[str, Any]] = [
        {name: d[name] for name in ("date", "machine", "threads") if name in d} for d in documents
    ]
    return first | {
        **(_beside_each_other(made) if all(part.keys() == made[0].keys() for part in made) else {}),
        "pair": _pairs(documents),
        "runs": [run for run, _ in runs.values()],
        "arguments": _beside_each_other([document["arguments"] for document in documents]),
        "versions": _beside_each_other([document["versions"] for document in documents]),
        "hyperparameters_from": _origins(documents),
        "command": " ; ".join(dict.fromkeys(document.get("command", "") for document in documents)),
    }


def _pairs(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The pair of all documents; where they have several, their names by stream and their bytes together."""
    pairs = {d["arguments"]["stream"]: d.get("pair", {}) for d in documents}
    told = {json.dumps(pair.get("identity")): pair for pair in pairs.values()}
    if len(told) == 1:
        return next(iter(told.values()))
    nbytes = [pair.get("bytes") for pair in told.values()]
    return {
        "name": ", ".join(f"{pair.get('name', 'unknown')} for {stream}" for stream, pair in pairs.items()),
        "bytes": None if None in nbytes else sum(nbytes),
        "several": True,
    }


def _origins(documents: Sequence[dict[str, Any]]) -> str | None:
    """Where hyper-parameters come from, by stream where that differs; None: no document tells."""
    told = [(d["arguments"]["stream"], d["hyperparameters_from"]) for d in documents if d.get("hyperparameters_from")]
    if len(told) == len(documents) and len({origin for _, origin in told}) == 1:
        return str(told[0][1])
    return "; ".join(f"{stream}: {origin}" for stream, origin in dict.fromkeys(told)) or None


def _beside_each_other(parts: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Every value of each name, once."""
    return {name: ", ".join(dict.fromkeys(str(part.get(name)) for part in parts)) for name in parts[0]}


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What runs of the same stream in two documents should share and do not. Hyper-parameters are each strategy's own,
    and may have been searched for anew."""
    if one["arguments"].get("stream") != other["arguments"].get("stream"):
        return []
    with_pair = all(any(ROWS[run["strategy"]].needs_pair for run in d["runs"]) for d in (one, other))
    settings, others = recorded_settings(one), recorded_settings(other)
    shared = [name for name in settings if name in others and name != "hyperparameters"]
    differing = [n for n in shared if settings[n] != others[n] and (with_pair or n not in PAIR_FIELDS)]
    if with_pair and one.get("pair", {}).get("identity") != other.get("pair", {}).get("identity"):
        differing.append("pair")
    return differing


def read_runs(folder: Path) -> dict[str, Any]:
    """The `results.json` of a comparison's folder. Raises `FileNotFoundError`, saying what to run, and `ValueError`,
    naming the file, for one that was not written by a comparison."""
    file = folder / RESULTS_FILE
    if not file.exists():
        raise FileNotFoundError(f"{folder} holds no {RESULTS_FILE}; make one with: clts compare --out {folder}")
    document = read_object(file, "runs")
    of_run = {"stream", "strategy", "seed", "memory_bytes", "seconds", *_SCALARS}
    for run in document["runs"] if isinstance(document["runs"], list) else [None]:
        if not isinstance(run, dict) or of_run - run.keys() or not isinstance(run["average_accuracy"], float):
            raise ValueError(f"{file} holds what is no run; remove it, and have it made again")
    return document


def read_finished(folders: Sequence[Path]) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The comparisons of all folders as one document, None if there is none; and the contents of `ablations.json`.

    Raises `FileNotFoundError` for a folder with neither, and `ValueError` as `merged` does.
    """
    ablations = []
    compared = []
    for folder in folders:
        file = folder / ABLATIONS_FILE
        if file.exists():
            ablations.append(read_object(file, "ablations", "stream"))
        if (folder / RESULTS_FILE).exists() or not file.exists():
            compared.append(folder)
    documents = [read_runs(folder) for folder in compared]
    return merged(documents, [str(folder) for folder in compared]) if documents else None, ablations
