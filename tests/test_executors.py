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
from avalanche_clts._support import executors
from avalanche_clts._support.executors import SubmititExecutor
from avalanche_clts.experiments import ablate, compare, experiment_of, open_executor, tuning
from avalanche_clts.experiments.runs.elsewhere import Origin
from avalanche_clts.experiments.runs.execution import Task, execute, perform_elsewhere
from avalanche_clts.experiments.runs.lock import alone
from avalanche_clts.streams.named import parse_stream
from tests.test_compare import QUICK
from tests.test_interruptions import checkpoints, outcome
from tests.workers import end_abruptly


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
    # As long as it takes to be killed in, on a busy machine too.
    asked = ["compare", "--strategies", "clts", "naive", "--seeds", "1", "--epochs", "30"]
    asked += ["--set", "clts.replay_size=12", "clts.router_epochs=1", "--pair", str(tiny_pair_folder), "--out"]
    assert cli.main([*asked, "spread", "--executor", dask.address]) == 0
    killer.join()
    survivor = dask.log("b" if killed == ["a"] else "a")
    assert "clts, seed 0: experience 5/5" in survivor
    assert "clts, seed 0: experience 1/5" not in survivor, "it did not go on from the checkpoint"
    assert (dask.log("a") + dask.log("b")).count("naive, seed 0: experience 1/5") == 1
    assert f"Dask at {dask.address}" in capsys.readouterr().err
    assert cli.main([*asked, "here"]) == 0
    assert outcome(tmp_path / "spread") == outcome(tmp_path / "here")

    with open_executor(dask.address, tmp_path) as executor:
        with pytest.raises(RuntimeError, match="is invalid for input of size") as raised:
            list(execute(failing(tiny_pair_folder), executor=executor))
        assert raised.value.__notes__[0].startswith("in the run of ewc, seed 7 on ")
        threading.Timer(1, lambda: dask.kill("scheduler")).start()
        with pytest.raises(ChildProcessError, match=r"a run was lost .*; repeat the command: the others") as raised:
            list(execute(deque([quick_task(tiny_pair_folder, train_epochs=1000)]), executor=executor))
        assert raised.value.__notes__ == ["in the run of naive, seed 0"]


def quick_task(pair: Path, strategy: str = "naive", seed: int = 0, **options: Any) -> Task:
    quick = experiment_of("digits", **{"train_epochs": 1, "pair": str(pair), **options})
    return Task(quick, strategy, seed, parse_stream("digits"))


def failing(pair: Path) -> deque[Task]:
    return deque([quick_task(pair, "ewc", 7, network="slim-resnet18")])  # which takes no image of this size


@contextmanager
def submitit_here(folder: Path) -> Iterator[SubmititExecutor]:
    """Jobs in processes of this machine."""
    with executors._on_slurm("slurm:...", "timeout_min=10,partition=gpu", folder, cluster="local") as executor:
        yield executor


def test_jobs_of_submitit_give_the_results_of_this_process(tiny_pair_folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    asked = quick_task(tiny_pair_folder).experiment
    asked = replace(asked, seeds=1, strategies=("naive",))
    with submitit_here(tmp_path / "jobs") as executor:
        compare(asked, out=tmp_path / "spread", executor=executor)
    compare(asked, out=tmp_path / "here")
    assert outcome(tmp_path / "spread") == outcome(tmp_path / "here")
    (log,) = (tmp_path / "jobs").glob("*.err")
    assert "naive, seed 0: experience 5/5" in log.read_text()


def test_a_job_that_dies_is_submitted_again_and_one_that_raises_is_not(tmp_path: Path, monkeypatch) -> None:
    def die_but_at_last(folder: Path, times: int) -> int:
        lives = len(list(folder.iterdir()))
        if lives < times:
            (folder / str(lives)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return lives

    def job_around() -> str | None:
        return os.environ.get("SLURM_JOB_ID")

    def refuse(word: str) -> None:
        (tmp_path / "refused" / str(time.time())).touch()
        raise ValueError(f"{word} is refused")

    monkeypatch.setattr(submitit_core.Job, "_results_timeout_s", 0)  # a slow disk is waited for
    monkeypatch.setattr(executors, "_LOSSES", 1)
    for name in ("once", "always", "refused"):
        (tmp_path / name).mkdir()
    with submitit_here(tmp_path / "jobs") as executor:
        once = executor.submit(die_but_at_last, tmp_path / "once", 1)
        always = executor.submit(die_but_at_last, tmp_path / "always", 9)
        refused = executor.submit(refuse, "this")
        with monkeypatch.context() as in_a_job:
            in_a_job.setenv("SLURM_JOB_ID", "1")
            around = executor.submit(job_around)
        assert around.result(60) is None, "a job is taken for a part of the one that it is submitted from"
        assert once.result(60) == 1
        with pytest.raises(ValueError, match="this is refused"):
            refused.result(60)
        with pytest.raises(ChildProcessError, match=r"ended without results; its log is \S+log.err"):
            always.result(60)
    assert [len(list((tmp_path / name).iterdir())) for name in ("once", "always", "refused")] == [1, 2, 1]


def test_jobs_do_not_outlive_a_command_that_ends_early(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), submitit_here(tmp_path) as executor:  # noqa: PT012
        sleeping = executor.submit(time.sleep, 1000)
        raise KeyboardInterrupt
    with pytest.raises(ChildProcessError, match="was cancelled"):
        sleeping.result(60)


def test_threads_of_a_process_do_one_run_at_a_time(tiny_pair_folder: Path, tmp_path: Path) -> None:
    """The random numbers of a process are one sequence."""
    tasks = [quick_task(tiny_pair_folder, "naive", seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as threads:
        spread = {task.seed: results for task, results in execute(deque(tasks), executor=threads)}
    here = {task.seed: results for task, results in execute(deque(tasks))}
    assert len(here) == 3
    for seed in here:
        assert spread[seed]["accuracy_matrix"] == here[seed]["accuracy_matrix"]


class Counting(ThreadPoolExecutor):
    """How many calls it was given, and how many that were not finished at most."""

    given = most = in_all = 0

    def submit(self, *call: Any) -> Any:
        self.in_all += 1
        self.given += 1
        self.most = max(self.most, self.given)
        future = super().submit(*call)
        future.add_done_callback(self._finished)
        return future

    def _finished(self, future: Any) -> None:
        self.given -= 1


@pytest.mark.parametrize(("jobs", "most"), [(None, 3), (2, 2)])
def test_an_executor_is_given_all_runs_or_so_many_at_a_time(
    jobs: int | None, most: int, tiny_pair_folder: Path
) -> None:
    sound, sound_too = (quick_task(tiny_pair_folder, seed=seed) for seed in range(2))
    tasks = deque([*failing(tiny_pair_folder), sound, sound_too])
    finished = []
    told: list[str] = []
    with Counting(1) as executor, pytest.raises(RuntimeError, match="is invalid for input of size"):
        finished.extend(task for task, _ in execute(tasks, jobs=jobs, executor=executor, progress=told.append))
    assert executor.most == most
    assert finished == [sound, sound_too][: most - 1], "what was handed over is finished, and no more"
    assert told[-1].endswith("then stopping: RuntimeError in the run of ewc, seed 7")


def test_searches_and_ablations_are_handed_over_too(tiny_pair_folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tuning, "TRIALS", 1)
    asked = replace(QUICK, seeds=1, pair=str(tiny_pair_folder), strategies=("naive",), ablations=("routing",))
    with Counting(1) as executor:
        compare(replace(asked, tune=True), out=tmp_path, executor=executor)
        assert executor.in_all == 2, "a trial and a run"
        ablate(asked, out=tmp_path, executor=executor)
        assert executor.in_all == 4, "both kinds of routing"


def test_a_run_waits_for_the_one_that_was_taken_for_lost(tmp_path: Path) -> None:
    """As where a worker's machine was out of reach, and still works on it."""
    unfinished = tmp_path / "run"
    entered = threading.Event()

    def next_one() -> None:
        with alone(unfinished):
            entered.set()

    with alone(unfinished):
        (waiting := threading.Thread(target=next_one)).start()
        assert not entered.wait(0.3)
    assert entered.wait(30)
    waiting.join()


def test_a_machine_that_is_not_as_this_one_is_told_of(tiny_pair_folder: Path, tmp_path: Path) -> None:
    task = quick_task(tiny_pair_folder)
    with pytest.raises(FileNotFoundError, match=f"{tmp_path / 'nowhere'} is not there on .*same path") as raised:
        perform_elsewhere(Origin(tmp_path / "nowhere"), task)
    assert raised.value.__notes__[0].startswith("in the run of naive, seed 0 on ")
    unseen = replace(task, unfinished=Path("results/runs/unfinished/naive"))
    with pytest.raises(FileNotFoundError, match=f"{tmp_path / 'results' / 'runs'} is not there on "):
        perform_elsewhere(Origin(tmp_path), unseen)
    with pytest.raises(ImportError, match=r"has torch \S+ \(not 1\.0\); install the same versions on every machine"):
        perform_elsewhere(Origin(tmp_path, {"torch": "1.0"}), task)
    away = replace(task, stream=replace(parse_stream("folder:photos"), data_root=None))
    with pytest.raises(FileNotFoundError, match="stream is 'folder:photos'"):
        perform_elsewhere(Origin(tmp_path), away)
    without_pair = quick_task(Path("pairs/mine"))
    with pytest.raises((OSError, ValueError), match="pairs/mine"):
        perform_elsewhere(Origin(tmp_path), without_pair)
    before = Path.cwd()
    assert perform_elsewhere(Origin(tmp_path), task)["strategy"] == "naive"
    assert Path.cwd() == before


def test_an_executor_that_loses_its_processes_is_told_of(tiny_pair_folder: Path) -> None:
    with (
        ProcessPoolExecutor(1, initializer=end_abruptly, initargs=(1,)) as executor,
        pytest.raises(ChildProcessError, match="ended abruptly, as it does where memory runs out"),
    ):
        list(execute(deque([quick_task(tiny_pair_folder)]), executor=executor))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("localhost:8786", "--executor is 'localhost:8786'; write the address of a Dask scheduler, tcp://HOST:PORT"),
        ("tcp://127.0.0.1:9", "--executor is 'tcp://127.0.0.1:9', where no Dask scheduler answers"),
        ("slurm", "--executor is 'slurm'; say how many minutes a run may take: slurm:timeout_min=600"),
        ("slurm:partition", "--executor is 'slurm:partition'; 'partition' is no option: write NAME=VALUE"),
        ("slurm:timeout_min=9", "--executor is 'slurm:timeout_min=9', but SLURM's commands are not on this machine"),
    ],
)
def test_where_there_is_no_executor_a_sentence_says_so(
    text: str, said: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(executors, "_CONNECT_SECONDS", 0.5)
    assert cli.main(["compare", "--executor", text, "--out", str(tmp_path / "results")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"clts: {said}")
    assert error.count("\n") == 1


def test_options_of_slurm_are_checked_before_anything_is_computed(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"executor is 'slurm:colour=red'.*Unknown argument 'colour'"),
        executors._on_slurm("slurm:colour=red", "timeout_min=1,colour=red", tmp_path, cluster="local"),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "module", "extra"), [("tcp://x:1", "distributed", "dask"), ("slurm", "submitit", "slurm")]
)
def test_a_missing_extra_is_named(text: str, module: str, extra: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(ImportError, match=rf'run: pip install "avalanche-clts\[{extra}\]"'),
        open_executor(text, tmp_path),
    ):
        pass


def test_what_is_no_executor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="executor is a AutoExecutor, not a Executor; give a concurrent"):
        compare(experiment_of("digits"), out=tmp_path, executor=AutoExecutor(tmp_path, cluster="local"))
