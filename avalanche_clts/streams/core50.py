"""CORe50 as Avalanche builds it from lists of files, with the names of its objects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

SCENARIOS = ("ni", "nc", "nic", "nicv2_79", "nicv2_196", "nicv2_391")
# Its categories as the authors' page calls them, where the labels of the objects have another form: "glass3" is the
# third pair of glasses.
_SAID = {"scissor": "scissors", "glass": "glasses"}


def core50(scenario: str, run: int, *, mini: bool, root: Path | None) -> Any:
    """Avalanche's benchmark, whose data sets know what their classes are called.

    **Arguments:**

    - scenario: one of `SCENARIOS`.
    - run: which of the ten fixed orders.
    - mini: images of 32x32 rather than 128x128 pixels.
    - root: folder of the data. None: Avalanche's default.
    """
    from avalanche.benchmarks.classic import CORe50
    from avalanche.benchmarks.datasets.core50 import CORe50Dataset

    from ..images.avalanche import name_classes

    benchmark = CORe50(scenario=scenario, run=run, mini=mini, dataset_root=root)
    labels = CORe50Dataset(root=root, mini=mini, download=False).labels2names
    names = object_names(labels, scenario, run)
    for experience in [*benchmark.train_stream, *benchmark.test_stream]:
        name_classes(experience.dataset, names)
    return benchmark


def object_names(labels2names: dict[str, Any], scenario: str, run: int) -> list[str]:
    """The names of the 50 objects, by class id: in new classes, every run numbers them by when they come.

    **Arguments:**

    - labels2names: the mapping of that name that CORe50 comes with: of a scenario, of a run, from a class to an object.
    - scenario, run: as `core50` takes them.
    """
    # It has no scenario NICv2, whose lists number the objects as NIC's do.
    named = labels2names["nic" if scenario.startswith("nicv2") else scenario][run]
    return [_said(named[target]) for target in range(len(named))]


def _said(label: str) -> str:
    return re.sub(r"[a-z_]*[a-z]", lambda category: _SAID.get(category[0], category[0]), label, count=1)
