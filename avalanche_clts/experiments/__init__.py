"""Comparisons, ablations and audits: for papers, and not needed by who uses strategy or plugins alone."""

from .._support.executors import open_executor
from .ablation import ablate
from .comparison import compare
from .config import experiment_of, read_experiment
from .experiment import Experiment

__all__ = ["Experiment", "ablate", "compare", "experiment_of", "open_executor", "read_experiment"]
