"""The command line answers at once where nothing is to be computed."""

from __future__ import annotations

import subprocess
import sys

import pytest

import avalanche_clts
from avalanche_clts.cli import main

HEAVY = ("torch", "avalanche", "transformers", "diffusers", "torchvision", "matplotlib", "sklearn")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["compare", "--help"], ["compere"]])
def test_help_and_errors_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from avalanche_clts.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


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
