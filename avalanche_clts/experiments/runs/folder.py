"""The folder of an experiment's finished runs: a file for each."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..._support.console import tell
from ..._support.files import read_object, write_text
from ...streams.named import slug
from ..experiment import Conditions
from ..rows import Results
from .execution import Task
from .lock import remove, require_still_there

_TIMED = "timed"


class ResultsFolder:
    """Finished runs on disk. A run is known by its stream, strategy, seed and everything that could change its outcome;
    see `Experiment.dependencies`.

    **Arguments:**

    - path: the folder; made if missing.
    - conditions: what runs depend on beside their experiment. A finished run under other conditions is kept, and not
        taken for this one's.

    Raises `OSError`, naming the folder, if it cannot be written.
    """

    def __init__(self, path: Path, conditions: Conditions) -> None:
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
        features = self.features if task.experiment.backbones else None
        task = replace(task, unfinished=self._unfinished(task), features=features)
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
            results: Results = read_object(file, "strategy", "seed", "average_accuracy", "accuracy_matrix")
        except ValueError:
            tell(f"{file} is damaged; its run is computed again")
            return None
        if not results.pop(_TIMED, True):
            return None if task.is_timed else without_seconds(results)
        return results

    def save(self, task: Task, results: Results) -> None:
        """Keep a finished run, and no longer what it would have gone on from."""
        require_still_there(self._runs)
        write_text(self.file(task), json.dumps(results | {_TIMED: task.is_timed}))
        remove(self._unfinished(task))

    @property
    def images(self) -> Path:
        """The folder of images that runs which are not timed share."""
        return self.path / "runs" / "images"

    @property
    def features(self) -> Path:
        """The database of what frozen backbones make of the stream's images, which all runs share."""
        return self.path / "runs" / "features.sqlite"

    def file(self, task: Task) -> Path:
        """Where a finished run is kept."""
        digest = task.experiment.digest(task.strategy, self.conditions, task.stream.contents)
        return self._runs / f"{slug(task.stream.name)}-{task.strategy}-seed{task.seed}-{digest}.json"

    def dependencies(self, task: Task) -> dict[str, Any]:
        """What the run depends on."""
        return task.experiment.dependencies(task.strategy, self.conditions, task.stream.contents)

    def _unfinished(self, task: Task) -> Path:
        # One that is timed does not go on from what took images of others.
        own = self.file(task).stem
        return self._runs / "unfinished" / (own if task.is_timed else f"{own}-shared")


def without_seconds(results: Results) -> Results:
    """The results of a run whose seconds are not its own."""
    return results | {"seconds": dict.fromkeys(results["seconds"])}
