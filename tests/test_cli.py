"""The command line answers at once where nothing is to be computed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import avalanche_clts
from avalanche_clts import load_pair
from avalanche_clts.cli import main
from avalanche_clts.experiments.rows import COMPARED
from avalanche_clts.pair.embedded import EMBEDDED
from avalanche_clts.pair.loading import named_pair_nbytes, pair_nbytes
from avalanche_clts.streams.named import STREAMS

HEAVY = ("torch", "avalanche", "transformers", "diffusers", "torchvision", "matplotlib", "sklearn")


# Command lines that compute nothing, by whether they are refused.
LIGHT = {
    "--help": False,
    "--version": False,
    "": False,
    "compare --help": False,
    "compere": True,
    "pairs": False,
    "compare --list": False,
    "compare --stream digit": True,
    "compare --stream folder:none": True,
    "compare --strategies er": True,
    "compare --pair blip": True,
    "compare --network vgg": True,
    "compare --out text": True,
    "compare --image-cache text": True,
    "ablate --only luck": True,
    "ablate --out text": True,
    "report none": True,
    "audit none": True,
    "generate --pair blip cat": True,
    "fetch blippp": True,
}


@pytest.mark.parametrize("line", LIGHT)
def test_what_computes_nothing_imports_nothing_heavy(line: str, tmp_path: Path) -> None:
    (tmp_path / "text").touch()
    code = (
        "import sys; from avalanche_clts.cli import main\n"
        f"try: status = main({line.split()!r})\n"
        "except SystemExit as exit: status = exit.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], status or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout.splitlines()[-1] == f"[] {2 if LIGHT[line] else 0}"


def test_lists_name_every_stream_and_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == ["streams:", *STREAMS, "strategies:", *COMPARED]


@pytest.mark.parametrize("name", EMBEDDED)
def test_size_of_a_pair_is_that_of_the_loaded_one(name: str) -> None:
    assert named_pair_nbytes(name) == pair_nbytes(load_pair(name))


@pytest.mark.skipif(os.name == "nt", reason="pipes of Unix")
def test_a_closed_pipe_ends_the_command_quietly() -> None:
    command = [sys.executable, "-m", "avalanche_clts.cli", "compare", "--list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 141


def test_bare_command_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "compare" in capsys.readouterr().out


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"clts {avalanche_clts.__version__}\n"


def test_every_public_name_is_found() -> None:
    found = {name: getattr(avalanche_clts, name) for name in avalanche_clts.__all__}
    assert all(found.values())
    assert set(avalanche_clts.__all__) <= set(dir(avalanche_clts))
    with pytest.raises(AttributeError, match="no attribute 'CLTZ'"):
        _ = avalanche_clts.CLTZ
