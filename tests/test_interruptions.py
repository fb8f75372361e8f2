"""A comparison that is killed goes on where it was, and two do not share a folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from avalanche_clts import cli
from avalanche_clts.experiments import compare, experiment_of
from avalanche_clts.experiments.runs import execution, folder, runner
from avalanche_clts.experiments.runs.execution import Task, execute
from avalanche_clts.experiments.runs.lock import only_one
from avalanche_clts.streams.named import parse_stream
from tests.workers import end_abruptly

STRATEGIES = ["clts", "caption-replay"]
FEW = {"clts": {"replay_size": 12, "router_epochs": 1}, "caption-replay": {"replay_size": 12}}  # images


def arguments(pair: Path, out: Path) -> list[str]:
    options = ["--strategies", *STRATEGIES, "--seeds", "1", "--epochs", "1", "--set"]
    options += [f"{name}.{option}={value}" for name, given in FEW.items() for option, value in given.items()]
    return ["compare", "--stream", "digits", *options, "--pair", str(pair), "--out", str(out)]


def outcome(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "results.json").read_text())
    for run in document["runs"]:
        del run["seconds"]
    del document["command"], document["date"]
    return document


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("runs/unfinished/*/checkpoint-*") if path.suffix != ".partial")


def test_a_killed_comparison_goes_on_where_it_was(tiny_pair_folder: Path, tmp_path: Path, capsys) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "avalanche_clts.cli", *arguments(tiny_pair_folder, killed)]
    process = subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # as this process: sums over several threads round otherwise
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while "checkpoint-0002" not in checkpoints(killed) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoints(killed)
    assert not (killed / "results.json").exists()

    assert cli.main([*arguments(tiny_pair_folder, killed), "-v"]) == 0
    said = capsys.readouterr().err
    assert "clts, seed 0: experience 5/5" in said
    assert "clts, seed 0: experience 1/5" not in said
    assert checkpoints(killed) == []
    assert cli.main(arguments(tiny_pair_folder, whole)) == 0
    assert outcome(killed) == outcome(whole)


def test_a_run_whose_checkpoints_are_damaged_begins_anew(tiny_pair_folder: Path, tmp_path: Path, monkeypatch) -> None:
    def save_and_stop(agent: Any, folder: Path) -> None:
        save(agent, folder)
        if (folder / "checkpoint-0002").exists():
            raise KeyboardInterrupt

    save = runner.save_checkpoint
    asked = experiment_of(
        "digits", strategies=["clts"], seeds=1, train_epochs=1, pair=str(tiny_pair_folder), hyperparameters=FEW
    )
    monkeypatch.setattr(runner, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        compare(asked, out=tmp_path / "stopped")
    monkeypatch.undo()
    for file in (tmp_path / "stopped").glob("runs/unfinished/*/checkpoint-*/state.safetensors"):
        file.write_bytes(b"nonsense")
    with pytest.warns(UserWarning, match="is damaged"):
        compare(asked, out=tmp_path / "stopped")
    compare(asked, out=tmp_path / "whole")
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def test_the_second_run_in_a_folder_says_so_and_stops(tiny_pair_folder: Path, tmp_path: Path, capsys) -> None:
    with only_one(tmp_path):
        assert cli.main(arguments(tiny_pair_folder, tmp_path)) != 0
    error = capsys.readouterr().err
    assert f"{tmp_path} is in use by process {os.getpid()}" in error
    assert "--out" in error
    assert list(tmp_path.glob("runs/*.json")) == []


def test_a_dead_process_leaves_the_folder_free(tmp_path: Path) -> None:
    def die() -> None:
        with only_one(tmp_path):
            os._exit(9)

    (process := get_context("fork").Process(target=die)).start()
    process.join()
    assert process.exitcode == 9
    with only_one(tmp_path):
        pass


def test_finished_runs_outlive_a_disk_that_fills_up(
    tiny_pair_folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    def full(path: Path, text: str) -> None:
        if "caption-replay" in path.name:
            raise OSError(28, "No space left on device", str(path))
        write(path, text)

    write = folder.write_text
    with monkeypatch.context() as patched:
        patched.setattr(folder, "write_text", full)
        assert cli.main(arguments(tiny_pair_folder, tmp_path)) != 0
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name.split("-seed")[0] for path in tmp_path.glob("runs/*.json")] == ["digits-clts"]
    assert cli.main(arguments(tiny_pair_folder, tmp_path)) == 0
    said = capsys.readouterr().err
    assert re.search(r"^\S+ \S+ clts, seed 0 .*\(already there\)$", said, re.MULTILINE)
    assert not re.search(r"caption-replay, seed 0 .*\(already there\)$", said, re.MULTILINE)


def test_processes_do_what_follows_and_one_that_fails_lets_the_others_finish(tiny_pair_folder: Path, capsys) -> None:
    stream = parse_stream("digits")
    quick = experiment_of("digits", train_epochs=1, pair=str(tiny_pair_folder))
    failing = Task(replace(quick, network="slim-resnet18"), "ewc", 7, stream)  # which takes no image of this size
    longer = replace(quick, train_epochs=30)  # still running when the other fails
    first, sound = Task(quick, "naive", 1, stream), Task(longer, "naive", 0, stream)
    told: list[str] = []
    finished = execute(tasks := deque([first]), jobs=2, progress=told.append)
    assert next(finished)[0] == first
    tasks.extend([failing, sound])
    assert next(finished)[0] == sound
    assert told[:2] == ["naive, seed 1", "ewc, seed 7; naive, seed 0"]
    begun = [line.split(maxsplit=2)[2] for line in capsys.readouterr().err.splitlines() if ", seed " in line]
    assert begun == ["naive, seed 1", "ewc, seed 7", "naive, seed 0"]
    with pytest.raises(RuntimeError, match="is invalid for input of size") as raised:
        next(finished)
    assert raised.value.__notes__ == ["in the run of ewc, seed 7"]
    assert "naive, seed 0, then stopping: RuntimeError in the run of ewc, seed 7" in told


def test_a_process_that_is_lost_is_told_of(tiny_pair_folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(execution, "_begin_worker", end_abruptly)
    stream = parse_stream("digits")
    task = Task(experiment_of("digits", pair=str(tiny_pair_folder)), "naive", 0, stream)
    with pytest.raises(ChildProcessError, match="ended abruptly, as it does where memory runs out"):
        list(execute(deque([task, task]), jobs=2))


def test_a_damaged_run_is_told_of_and_computed_again(tiny_pair_folder: Path, tmp_path: Path, capsys) -> None:
    asked = experiment_of("digits", strategies=["naive"], seeds=1, train_epochs=1, pair=str(tiny_pair_folder))
    compare(asked, out=tmp_path)
    before = outcome(tmp_path)
    (file,) = tmp_path.glob("runs/*naive*.json")
    file.write_text("")
    compare(asked, out=tmp_path)
    assert f"{file} is damaged" in capsys.readouterr().err
    assert outcome(tmp_path) == before


def test_tasks_that_follow_from_results_are_run(tiny_pair_folder: Path) -> None:
    stream = parse_stream("digits")
    quick = experiment_of("digits", train_epochs=1, pair=str(tiny_pair_folder))
    first, second = (Task(quick, "naive", seed, stream) for seed in range(2))
    tasks = deque([first])
    finished = []
    for task, _ in execute(tasks):
        finished.append(task)
        if task == first:
            tasks.append(second)
    assert finished == [first, second]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_folder_that_vanishes_is_told_of_and_gone_on_with_when_it_is_back(
    strategy: str, tiny_pair_folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    def save_and_lose(agent: Any, folder: Path) -> None:
        save(agent, folder)
        if f"-{strategy}-" in folder.name and (folder / "checkpoint-0002").exists():
            (tmp_path / "results").rename(tmp_path / "elsewhere")

    save = runner.save_checkpoint
    with monkeypatch.context() as patched:
        patched.setattr(runner, "save_checkpoint", save_and_lose)
        assert cli.main(arguments(tiny_pair_folder, tmp_path / "results")) != 0
    error = capsys.readouterr().err
    assert re.search(rf"{tmp_path / 'results'}\S* has vanished; bring it back", error)
    assert error.endswith(f"in the run of {strategy}, seed 0\n")
    assert not (tmp_path / "results").exists()
    (tmp_path / "elsewhere").rename(tmp_path / "results")
    assert cli.main([*arguments(tiny_pair_folder, tmp_path / "results"), "-v"]) == 0
    said = capsys.readouterr().err
    assert f"{strategy}, seed 0: experience 5/5" in said
    assert f"{strategy}, seed 0: experience 1/5" not in said
    already = [line.split()[2].rstrip(",") for line in said.splitlines() if line.endswith("(already there)")]
    assert already == STRATEGIES[: STRATEGIES.index(strategy)]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes to read-only folders")
def test_a_folder_that_may_only_be_read_is_told_of(tiny_pair_folder: Path, tmp_path: Path, capsys) -> None:
    tmp_path.chmod(0o500)
    try:
        assert cli.main(arguments(tiny_pair_folder, tmp_path / "results")) != 0
    finally:
        tmp_path.chmod(0o700)
    assert f"cannot write to {tmp_path / 'results'}" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_workers_do_not_outlive_a_killed_comparison(tiny_pair_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "avalanche_clts.cli", *arguments(tiny_pair_folder, tmp_path), "--jobs", "2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while not checkpoints(tmp_path) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(members(process.pid)) >= 3
        process.kill()  # the comparison alone, not its workers
        process.wait()
        deadline = time.monotonic() + 120
        while members(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert members(process.pid) == []
    finally:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)


def members(session: int) -> list[int]:
    """The living processes of a session."""
    listed = subprocess.run(["ps", "-eo", "pid=,sid=,stat="], check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, sid, state in rows if int(sid) == session and not state.startswith("Z")]
