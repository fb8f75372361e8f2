"""What `compare` and `ablate` can both be told, checked and brought together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from avalanche.benchmarks.utils import AvalancheDataset

from .._support.checks import require_whole
from ..networks import BACKBONES, NETWORKS, require_fitting
from .rows.strategies import COMPARED, STRATEGIES
from .settings import Settings
from .tuning import GRIDS, UNSEARCHED, options_of

Hyperparameters = Mapping[str, Mapping[str, Any]]


def require_runs(seeds: int, jobs: int, device: str) -> None:
    """Raise `ValueError` for numbers that are none, and for a device that is not there."""
    require_whole("seeds", seeds)
    require_whole("jobs", jobs)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device is {device!r}, which this machine does not have ({reason}); use cpu") from None


def adjusted(
    settings: Settings,
    *,
    network: str | None = None,
    router: str | None = None,
    train_epochs: int | None = None,
    train_mb_size: int | None = None,
    hyperparameters: Hyperparameters | None = None,
    searched: Iterable[str] = (),
) -> Settings:
    """The settings with what is given in the place of their own.

    **Arguments:**

    - network, router, train_epochs, train_mb_size: as in `Settings`. None: the settings' own.
    - hyperparameters: of single strategies, by their names.
    - searched: strategies whose hyper-parameters a search will find, so that none can be given.

    Raises `ValueError` for what does not exist or cannot be.
    """
    if train_epochs is not None:  # given for everyone: no longer as a search had found them for some
        own = {
            name: {k: v for k, v in options.items() if k != "train_epochs"} for name, options in settings.tuned.items()
        }
        settings = replace(settings, tuned=own)
    settings = replace(
        settings,
        network=network or settings.network,
        router=router or settings.router,
        train_epochs=_whole("train_epochs", train_epochs, settings.train_epochs),
        train_mb_size=_whole("train_mb_size", train_mb_size, settings.train_mb_size),
        tuned=_tuned(settings, hyperparameters or {}, set(searched)),
    )
    _require_network("network", settings.network, [*NETWORKS, *BACKBONES])
    _require_network("router", settings.router, NETWORKS)
    if settings.router is not None and settings.network in BACKBONES:
        raise ValueError(
            f"router is {settings.router!r}, but with network {settings.network!r} it is a linear layer too"
        )
    return settings


def require_networks(settings: Settings, dataset: AvalancheDataset) -> None:
    """Raise `ValueError` if the networks of the settings cannot take the images of a data set."""
    if settings.network not in BACKBONES:
        require_fitting("network", settings.network, dataset)
        require_fitting("router", settings.router, dataset)


def _require_network(name: str, given: str | None, known: Iterable[str]) -> None:
    if given is not None and given not in known:
        raise ValueError(f"{name} is {given!r}; known networks: {', '.join(known)}")


def _whole(name: str, given: int | None, otherwise: int) -> int:
    require_whole(name, given, none="the settings' own")
    return otherwise if given is None else given


def _tuned(settings: Settings, given: Hyperparameters, searched: set[str]) -> dict[str, dict[str, Any]]:
    unknown = [name for name in given if name not in STRATEGIES]
    if unknown:
        raise ValueError(f"hyperparameters has {', '.join(unknown)}; known strategies: {', '.join(COMPARED)}")
    for name, options in given.items():
        known = options_of(name)
        wrong = next((option for option in options if option not in known), None)
        if wrong is not None:
            listed = ", ".join(known) or "none"
            raise ValueError(f"hyperparameters has {name}.{wrong}; the hyper-parameters of {name}: {listed}")
        if name in searched:
            raise ValueError(f"hyperparameters has {name}, which the search would overrule; leave either out")
        for option, value in options.items():
            allowed = UNSEARCHED.get(name, {}).get(option)
            if allowed is None:
                _require_like(f"{name}.{option}", value, GRIDS[name][option])
            elif value not in allowed or isinstance(value, bool) != isinstance(allowed[0], bool):  # 1 == True
                listed = ", ".join(map(str, allowed))
                raise ValueError(f"hyperparameters has {name}.{option} of {value!r}; it must be one of {listed}")
    return settings.tuned | {name: {**settings.tuned.get(name, {}), **options} for name, options in given.items()}


def _require_like(name: str, value: Any, tried: Sequence[Any]) -> None:
    """Raise `ValueError` unless `value` is a number above 0, and a whole one where a search tries only such."""
    whole = all(isinstance(other, int) for other in tried)
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not (isinstance(value, kinds) and value > 0):
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"hyperparameters has {name} of {value!r}; it must be {kind} above 0")
