"""The folder of a comparison: one file for each finished run, and everything derived from them."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..._support.files import write_text
from ...streams.named import slug
from ..rows.strategies import STRATEGIES, Results
from ..settings import PAIR_SETTINGS
from .execution import Task
from .lock import require_still_there

RESULTS_FILE = "results.json"
ABLATIONS_FILE = "ablations.json"
MEMORY_KINDS = ("captions", "exemplars", "heads", "router", "network")
SECONDS_KINDS = ("total", "captioning", "generation", "router")
_TIMED = "timed"
_SCALARS = (
    "average_accuracy",
    "forgetting",
    "backward_transfer",
    "router_accuracy",
    "oracle_accuracy",
)
_MATRICES = ("accuracy_matrix", "router_confusion", "class_accuracy")


class ResultsFolder:
    """Finished runs on disk. A run is known by its stream, strategy, seed and everything that could change its outcome,
    the images of a folder among it.

    **Arguments:**

    - path: the folder; made if missing.
    - conditions: what runs depend on beside their own settings: "pair", "device", "versions". A finished run under
        other conditions is kept, and not taken for this one's.

    Raises `OSError`, naming the folder, if it cannot be written.
    """

    def __init__(self, path: Path, conditions: dict[str, Any]) -> None:
        self.path = path
        self.conditions = conditions
        self._runs = path / "runs"
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
            probe = self._runs / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise OSError(f"cannot write to {path} ({error.strerror}); choose another folder with --out") from error

    def prepared(self, task: Task, *, to_look_at: bool = False) -> Task:
        """The task with the places in this folder where it keeps what an interrupted run goes on from.

        **Arguments:**

        - to_look_at: whether event files and the trained strategy are kept as well.
        """
        task = replace(task, unfinished=self._unfinished(task))
        if not to_look_at:
            return task
        events = self.path / "tensorboard" / slug(task.stream.name) / f"{task.strategy}-seed{task.seed}"
        if not self._unfinished(task).exists():
            shutil.rmtree(events, ignore_errors=True)  # of an earlier run, or of one that begins again
        return replace(task, tensorboard=events, kept=self.kept(task))

    def kept(self, task: Task) -> Path:
        """Where a trained strategy is kept."""
        return self.path / "checkpoints" / self.file(task).stem

    def load(self, task: Task) -> Results | None:
        """A finished run, or None: also where the file is damaged, which is told, and where the task is to be timed and
        the run took images that another one had made."""
        file = self.file(task)
        if not file.exists():
            return None
        try:
            results: Results = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            print(f"{file} is damaged ({error}); its run is computed again", file=sys.stderr)
            return None
        timed = results.pop(_TIMED, True)
        return results if timed or not task.is_timed else None

    def save(self, task: Task, results: Results) -> None:
        """Keep a finished run, and no longer what it would have gone on from."""
        require_still_there(self._runs)
        write_text(self.file(task), json.dumps(results | {_TIMED: task.is_timed}))
        shutil.rmtree(self._unfinished(task), ignore_errors=True)

    @property
    def images(self) -> Path:
        """The database of images that runs which are not timed share."""
        return self.path / "runs" / "images.sqlite"

    def file(self, task: Task) -> Path:
        """Where a finished run is kept."""
        dependencies = self.dependencies(task)
        digest = hashlib.sha256(json.dumps(dependencies, sort_keys=True).encode()).hexdigest()
        return self._runs / f"{slug(task.stream.name)}-{task.strategy}-seed{task.seed}-{digest[:12]}.json"

    def _unfinished(self, task: Task) -> Path:
        return self._runs / "unfinished" / self.file(task).stem

    def dependencies(self, task: Task) -> dict[str, Any]:
        """What the run depends on: its settings, the device, the versions, a folder's images, and the pair if it makes
        use of one."""
        shared = {name: value for name, value in self.conditions.items() if name != "pair" or task.needs_pair}
        contents = {} if task.stream.contents is None else {"contents": task.stream.contents}
        return {"settings": task.own_settings()} | shared | contents


def to_csv(runs: Iterable[Results]) -> str:
    """One line a run: all figures, and matrices as JSON."""
    text = io.StringIO()
    header = ["stream", "strategy", "seed", *_SCALARS]
    header += [f"memory_bytes.{kind}" for kind in MEMORY_KINDS] + [f"seconds.{kind}" for kind in SECONDS_KINDS]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*header, *_MATRICES])
    for run in runs:
        row = [run["stream"], run["strategy"], run["seed"], *(run[name] for name in _SCALARS)]
        row += [run["memory_bytes"][kind] for kind in MEMORY_KINDS]
        row += [run["seconds"][kind] for kind in SECONDS_KINDS]
        writer.writerow([*row, *(json.dumps(run[name]) for name in _MATRICES)])
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
    return first | {
        "runs": [run for run, _ in runs.values()],
        "arguments": _beside_each_other([document["arguments"] for document in documents]),
        "versions": _beside_each_other([document["versions"] for document in documents]),
        "command": " ; ".join(dict.fromkeys(document.get("command", "") for document in documents)),
    }


def _beside_each_other(parts: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Every value of each name, once."""
    return {name: ", ".join(dict.fromkeys(str(part.get(name)) for part in parts)) for name in parts[0]}


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What runs of the same stream in two documents should share and do not. Hyper-parameters are each strategy's own,
    and may have been searched for anew."""
    if one["arguments"].get("stream") != other["arguments"].get("stream"):
        return []
    with_pair = all(any(STRATEGIES[run["strategy"]].needs_pair for run in d["runs"]) for d in (one, other))
    settings, others = one.get("settings", {}), other.get("settings", {})
    shared = [name for name in settings if name in others and name != "tuned"]
    differing = [n for n in shared if settings[n] != others[n] and (with_pair or n not in PAIR_SETTINGS)]
    if with_pair and one.get("pair", {}).get("identity") != other.get("pair", {}).get("identity"):
        differing.append("pair")
    return differing


def read_runs(folder: Path) -> dict[str, Any]:
    """The `results.json` of a comparison's folder. Raises `FileNotFoundError`, saying what to run."""
    file = folder / RESULTS_FILE
    if not file.exists():
        raise FileNotFoundError(f"{folder} holds no {RESULTS_FILE}; make one with: clts compare --out {folder}")
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
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
            ablations.append(json.loads(file.read_text(encoding="utf-8")))
        if (folder / RESULTS_FILE).exists() or not file.exists():
            compared.append(folder)
    documents = [read_runs(folder) for folder in compared]
    return merged(documents, [str(folder) for folder in compared]) if documents else None, ablations
