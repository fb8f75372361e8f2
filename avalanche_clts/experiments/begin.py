"""What is checked before an experiment begins, beyond what the experiment says itself: machine and images."""

from __future__ import annotations

import torch
from avalanche.benchmarks import NCScenario

from .._support.checks import require_whole
from ..networks import BACKBONES, require_fitting
from .experiment import Experiment


def require_machine(experiment: Experiment, jobs: int) -> None:
    """Raise `ValueError` or `TypeError` for a number of jobs that is none, and for a device that is not there."""
    require_whole("jobs", jobs)
    try:
        torch.empty(0, device=experiment.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device is {experiment.device!r}, which this machine does not have ({reason}); use cpu"
        ) from None


def require_fit(experiment: Experiment, benchmark: NCScenario) -> None:
    """Raise `ValueError` if the networks of the experiment cannot take the images of its stream."""
    if experiment.network not in BACKBONES:
        dataset = benchmark.train_stream[0].dataset
        require_fitting("network", experiment.network, dataset)
        require_fitting("router", experiment.router, dataset)
