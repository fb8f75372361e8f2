"""The tutorials are run, cell after cell, with less of everything: that for a GPU on a CPU, with the embedded pair."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from tests.image_folders import fill

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
LESS = {"EXPERIENCES": 2, "EPOCHS": 1, "REPLAY_SIZE": 40}
# What takes the place of the values in a tutorial's cell of parameters.
PARAMETERS: dict[str, dict[str, Any]] = {
    "digits": LESS,
    "folder": {**LESS, "SIZE": 16},
    "gpu": {**LESS, "PAIR": "embedded", "DEVICE": "cpu", "FOLDER": "images"},
    "metrics": LESS,
}


def cells(tutorial: str) -> list[dict[str, Any]]:
    notebook = json.loads((TUTORIALS / f"{tutorial}.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("tutorial", PARAMETERS)
def test_tutorial_runs(tutorial: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "images", "circle", "heart", "square", "star", count=10, size=(40, 32))
    names: dict[str, Any] = {"__name__": "__main__"}
    parameters = PARAMETERS[tutorial].copy()
    with mpl.rc_context({"backend": "agg"}):
        for number, cell in enumerate(cells(tutorial)):
            exec(compile("".join(cell["source"]), f"{tutorial}, cell {number}", "exec"), names)
            if "parameters" in cell["metadata"].get("tags", []):
                assert parameters.keys() <= names.keys()
                names.update(parameters)
                parameters = {}
    plt.close("all")
    names.clear()
    gc.collect()  # loggers close their files while the folder is there
    assert not parameters  # they were given


def test_every_tutorial_is_run() -> None:
    assert {path.stem for path in TUTORIALS.glob("*.ipynb")} == set(PARAMETERS)


@pytest.mark.parametrize("tutorial", PARAMETERS)
def test_tutorial_is_kept_without_outputs(tutorial: str) -> None:
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells(tutorial))
