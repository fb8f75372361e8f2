"""What is checked before an experiment begins, beyond what the experiment says itself: machine and images."""

from __future__ import annotations

from concurrent.futures import Executor

import torch
from avalanche.benchmarks import NCScenario

from .._support.checks import require_kind, require_whole
from .._support.console import tell
from ..networks import NETWORKS, require_fitting
from ..pair.loading import Pair
from .experiment import Experiment
from .rows import ROWS
from .runs.backbones import networks_of


def require_machine(experiment: Experiment, jobs: int | None, executor: Executor | None) -> None:
    """Raise `ValueError` or `TypeError` for a number of jobs that is none, what is no executor, and a device that is
    not there."""
    require_whole("jobs", jobs, none="one, or all that an executor has room for")
    if executor is not None:
        require_kind("executor", executor, Executor, "a concurrent.futures.Executor, such as open_executor makes")
    try:
        torch.empty(0, device=experiment.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device is {experiment.device!r}, which this machine does not have ({reason}); use cpu"
        ) from None


def require_fit(experiment: Experiment, benchmark: NCScenario, pair: Pair) -> None:
    """Raise `ValueError` if the networks of the experiment cannot take the images of its stream, and what
    `load_pretrained` raises if a backbone is not there."""
    dataset = benchmark.train_stream[0].dataset
    if experiment.backbone is None:
        require_fitting("network", experiment.network, dataset)
    if not experiment.on_features and experiment.router in (None, *NETWORKS):
        require_fitting("router", experiment.router, dataset)
    if experiment.backbones:
        networks_of(experiment, benchmark, pair)


def fitting(experiment: Experiment, benchmark: NCScenario, pair: Pair) -> list[str]:
    """The strategies that can run on the stream, with the pair, on the backbone; the others are told of, or raise
    `ValueError` if they were asked for."""
    reasons = {name: reason for name in experiment.chosen if (reason := _unfit(name, experiment, benchmark, pair))}
    for name, reason in reasons.items():
        if experiment.strategies is not None:
            raise ValueError(f"strategies has {name}, which cannot run on {experiment.stream}: {reason}; leave it out")
        tell(f"{name} is left out: {reason}")
    return [name for name in experiment.chosen if name not in reasons]


def _unfit(name: str, experiment: Experiment, benchmark: NCScenario, pair: Pair) -> str | None:
    row = ROWS[name]
    if row.on_features and not experiment.on_features:
        return "it is made of the features of a frozen backbone, and none is given"
    return row.unfit(benchmark) or row.unfit_pair(pair)
