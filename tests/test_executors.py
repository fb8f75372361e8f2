"""Runs that an executor has done: on Dask's workers, one of which is killed, and as the jobs of submitit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from submitit import AutoExecutor
from submitit.core import core as submitit_core

from avalanche_clts import cli
from avalanche_clts.experiments import compare, experiment_of, open_executor
from avalanche_clts.experiments.runs import executors
from avalanche_clts.experiments.runs.elsewhere import Origin
from avalanche_clts.experiments.runs.execution import Task, execute, perform_elsewhere
from avalanche_clts.experiments.runs.executors import SubmititExecutor
from avalanche_clts.experiments.runs.lock import alone
from avalanche_clts.streams.named import parse_stream
from tests.test_interruptions import checkpoints, end_abruptly, outcome


class Dask:
    """A scheduler and two workers, each a process of its own, and each with a log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.processes: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        for name in ("a", "b"):
            options = ["--nthreads", "1", "--memory-limit", "0", "--local-directory", str(self.folder), "--name", name]
            self._start("worker", *options, "--no-nanny", "--no-dashboard", name=name)

    def _start(self, kind: str, *options: str, name: str = "scheduler") -> None:
        with (self.folder / name).open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(self.file), *options],
                cwd=self.folder,  # another one than that of the comparison
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
            )

    @property
    def address(self) -> str:
        wait_for(self.file.exists)
        return json.loads(self.file.read_text())["address"]

    def log(self, name: str) -> str:
        return (self.folder / name).read_text()

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Dask]:
    (tmp_path / "dask").mkdir()
    cluster = Dask(tmp_path / "dask")
    try:
        cluster.start()
        yield cluster
    finally:
        for name in cluster.processes:
            cluster.kill(name)


def wait_for(condition: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_that_is_lost_with_its_worker_is_done_again_and_no_other(
    dask: Dask, tiny_pair_folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    def kill_the_worker_of_clts() -> None:
        wait_for(lambda: checkpoints(tmp_path / "spread"))
        (worker,) = (name for name in "ab" if "clts, seed 0: experience 1/5" in dask.log(name))
        dask.kill(worker)
        killed.append(worker)

    monkeypatch.chdir(tmp_path)
    killed: list[str] = []
    killer = threading.Thread(target=kill_the_worker_of_clts)
    killer.start()
    asked = ["compare", "--strategies", "clts", "naive", "--seeds", "1", "--epochs", "1"]
    asked += ["--pair", str(tiny_pair_folder), "--out"]
    assert cli.main([*asked, "spread", "--executor", dask.address]) == 0
    killer.join()
    survivor = dask.log("b" if killed == ["a"] else "a")
    assert "clts, seed 0: experience 5/5" in survivor
    assert "clts, seed 0: experience 1/5" not in survivor, "it did not go on from the checkpoint"
    assert [*map(dask.log, "ab")][0].count("naive, seed 0: experience 1/5") + [*map(dask.log, "ab")][1].count(
        "naive, seed 0: experience 1/5"
    ) == 1
    assert f"Dask at {dask.address}" in capsys.readouterr().err
    assert cli.main([*asked, "here"]) == 0
    assert outcome(tmp_path / "spread") == outcome(tmp_path / "here")

    with open_executor(dask.address, tmp_path) as executor:
        with pytest.raises(RuntimeError, match="is invalid for input of size") as raised:
            list(execute(failing(tiny_pair_folder), executor=executor))
        assert raised.value.__notes__[0].startswith("in the run of ewc, seed 7 on ")
        threading.Timer(1, lambda: dask.kill("scheduler")).start()
        with pytest.raises(ChildProcessError, match="the run of naive, seed 0 was lost"):
            list(execute(deque([quick_task(tiny_pair_folder, train_epochs=1000)]), executor=executor))


def quick_task(pair: Path, strategy: str = "naive", seed: int = 0, **options: Any) -> Task:
    quick = experiment_of("digits", **{"train_epochs": 1, "pair": str(pair), **options})
    return Task(quick, strategy, seed, parse_stream("digits"))


def failing(pair: Path) -> deque[Task]:
    return deque([quick_task(pair, "ewc", 7, network="slim-resnet18")])  # which takes no image of this size
