"""What is told of work that goes on: bars in a terminal, lines with the time elsewhere, and as much as is asked for."""

from __future__ import annotations

import io
import re
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from avalanche_clts._support import console
from avalanche_clts._support.console import Verbosity, bar, begin, detail, set_verbosity, tell
from avalanche_clts.cli import main
from avalanche_clts.experiments import experiment_of
from avalanche_clts.experiments.runs.execution import Task, execute
from avalanche_clts.streams.named import parse_stream

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


class Terminal(io.StringIO):
    """What a program takes for one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def normal() -> Iterator[None]:
    yield
    set_verbosity(Verbosity.NORMAL)


def told_of_work(verbosity: Verbosity, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    set_verbosity(verbosity)
    begin("a stage")
    with bar(total=2, desc="images", file=stream) as shown:
        shown.update()
        tell("a run is done")
        detail("an experience")
        shown.update()
    return stream.getvalue()


@pytest.mark.parametrize(
    ("verbosity", "lines"),
    [
        (Verbosity.QUIET, []),
        (Verbosity.NORMAL, ["a stage", "a run is done"]),
        (Verbosity.VERBOSE, ["a stage", "a run is done", "an experience"]),
    ],
)
def test_outside_a_terminal_a_stage_is_a_line_with_the_time(
    verbosity: Verbosity, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = told_of_work(verbosity, io.StringIO(), monkeypatch)
    assert "\r" not in said
    assert [re.sub(f"^{TIME}", "", line) for line in said.splitlines()] == lines
    assert all(re.match(TIME, line) for line in said.splitlines())


def test_a_terminal_has_bars_and_lines_without_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    said = told_of_work(Verbosity.NORMAL, Terminal(), monkeypatch)
    assert "images: 100%" in said
    assert re.search(r"^.*\ra run is done$", said, re.MULTILINE)
    assert not re.search(TIME, said)
    assert "a stage" not in said  # the bar shows it


def test_quiet_shows_no_bar_in_a_terminal_either(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told_of_work(Verbosity.QUIET, Terminal(), monkeypatch) == ""


@pytest.mark.parametrize(("options", "level"), [(["-q"], -1), ([], 0), (["-v"], 1)])
@pytest.mark.parametrize("behind", [True, False])
def test_options_before_and_behind_the_command_say_how_much(options: list[str], level: int, behind: bool) -> None:
    line = ["report", "none", *options] if behind else [*options, "report", "none"]
    assert main(line) == 2
    assert console.verbosity() == level


def test_commands_tell_a_line_a_stage(
    tiny_pair_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(*more: str) -> tuple[list[str], str]:
        folder = str(tmp_path / "-".join(["g", *more]))
        assert main(["generate", "a", "b", "--pair", str(tiny_pair_folder), "--out", folder, *more]) == 0
        told = capfd.readouterr()
        return [re.sub(f"^{TIME}", "", line) for line in told.err.splitlines()], told.out

    said, files = run()
    assert said == ["generating 2 images"]
    assert len(files.splitlines()) == 2
    assert run("-v")[0] == ["generating 2 images", "generating: 2 of 2 images"]
    assert run()[0] == []  # they are there
    assert run("-q")[0] == []


def test_runs_in_progress_are_told_of(tiny_pair_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quick = experiment_of("digits", train_epochs=1, pair=str(tiny_pair_folder))
    shown: list[str] = []
    assert len(list(execute(deque([Task(quick, "naive", 0, parse_stream("digits"))]), progress=shown.append))) == 1
    said = [re.sub(f"^{TIME}", "", line) for line in capfd.readouterr().err.splitlines()]
    assert [line for line in said if line.startswith("naive")] == ["naive, seed 0"]
    assert shown[0] == "naive, seed 0"
