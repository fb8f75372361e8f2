"""Comparisons, ablations and audits: for papers, and not needed by who uses strategy or plugins alone."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._support.executors import open_executor
    from .ablation import ablate
    from .comparison import compare
    from .config import experiment_of, read_experiment
    from .experiment import Experiment

__all__ = ["Experiment", "ablate", "compare", "experiment_of", "open_executor", "read_experiment"]

# Where each is found when it is first asked for, as in the package: an experiment is read without loading what runs it.
_MODULE_OF = {
    "Experiment": ".experiment",
    "ablate": ".ablation",
    "compare": ".comparison",
    "experiment_of": ".config",
    "open_executor": ".._support.executors",
    "read_experiment": ".config",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name], __name__), name)
    globals()[name] = value
    return value
