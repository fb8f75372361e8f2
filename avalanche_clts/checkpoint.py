"""A strategy's state between two experiences, on disk: safetensors and JSON, never pickle, and never an image."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from avalanche.models import DynamicModule, IncrementalClassifier, MultiHeadClassifier, MultiTaskModule
from avalanche.models.dynamic_modules import avalanche_model_adaptation
from avalanche.training.storage_policy import ExemplarsBuffer
from avalanche.training.supervised import Cumulative

from ._support.files import read_state, whole_folder, write_state, write_text
from .footprint import caption_buffers
from .images.avalanche import adaptable
from .memory.buffer import CaptionBuffer
from .models import RoutedModel
from .pair.loading import pair_identity
from .plugin_state import load_plugin_state, plugin_state, unknown_plugins

_VERSION = 4
_STATE, _SUMS = "state.safetensors", "checksums.json"
_KEPT = 2  # checkpoints: the newest, and the one before it, should the newest turn out to be damaged


def save_checkpoint(strategy: Any, folder: str | os.PathLike[str]) -> None:
    """Write what `strategy` needs to go on with its next experience.

    Holds the model, the optimizer, the captions, counters, random state, what plugins remember (EWC, SI, MAS, LwF,
    schedulers, and any plugin with `state_dict` and `load_state_dict`), and what forgetting and backward and forward
    transfer remember of earlier evaluations. The pair's weights are not in it, only their names; neither is any image,
    real or generated. Written beside and renamed when whole, with checksums; the one before it is kept.

    ```python
    for experience in benchmark.train_stream:
        strategy.train(experience)
        save_checkpoint(strategy, "run")
    ```

    **Arguments:**

    - strategy: a `CLTS`, or any strategy with a `CaptionReplayPlugin`, between two calls of `train`.
    - folder: of this strategy's checkpoints; made if missing.

    Raises `ValueError` for a strategy without captions, for one with plugins or growing modules whose state this format
    does not know, by their names, and for a folder that holds checkpoints of a longer run.
    """
    folder = Path(folder)
    buffers = _buffers(strategy)
    _require_known_state(strategy)
    learnt = strategy.clock.train_exp_counter
    place = folder / f"checkpoint-{learnt:04d}"
    for other in _checkpoints(folder)[:1]:
        if _number(other) > learnt:
            raise ValueError(
                f"{folder} holds {other.name}, and strategy has learnt {learnt} experiences: it is of "
                "another run; choose another folder, or go on from what it holds with load_checkpoint"
            )
    with whole_folder(place) as partial:
        files = [_STATE]
        for number, buffer in enumerate(buffers):
            files.append(_captions_file(number))
            buffer.memory.write(partial / files[-1])
        write_state(
            partial / _STATE,
            {
                "version": _VERSION,
                "buffers": [buffer.state_dict() for buffer in buffers],
                "pairs": [pair_identity(buffer.pair) for buffer in buffers],
                "model": strategy.model.state_dict(),
                "template": strategy.model.template.state_dict() if isinstance(strategy.model, RoutedModel) else None,
                "optimizer": strategy.optimizer.state_dict(),
                "optimized": _optimized(strategy),
                "plugins": [[type(plugin).__name__, plugin_state(plugin)] for plugin in strategy.plugins],
                "clock": vars(strategy.clock),
                "metrics": [[name, _remembered(metric)] for name, metric in _metrics_with_history(strategy)],
                "random": _random_state(),
            },
        )
        write_text(partial / _SUMS, json.dumps({name: _sha256(partial / name) for name in files}))
    for old in _checkpoints(folder)[_KEPT:]:
        shutil.rmtree(old)


def load_checkpoint(strategy: Any, folder: str | os.PathLike[str]) -> int:
    """Put the state that `save_checkpoint` wrote into `strategy`, and return the index of the next experience to train.

    Where the newest checkpoint is damaged, it says so in a warning and takes the one before. The transforms of earlier
    experiences are code, which no checkpoint holds: they are read off the stream that training goes on with.

    ```python
    start = load_checkpoint(strategy, "run") if Path("run").exists() else 0
    for experience in benchmark.train_stream[start:]:
        strategy.train(experience)
        save_checkpoint(strategy, "run")
    ```

    **Arguments:**

    - strategy: built like the one that was saved, and not trained yet.

    Raises `FileNotFoundError` where there is no checkpoint, and `ValueError` for one that is of another version of the
    library, of another pair or of other plugins, where all are damaged, and for a strategy that could not be saved.
    """
    folder = Path(folder)
    buffers = _buffers(strategy)
    _require_known_state(strategy)
    place, state = _newest_whole(folder)
    pairs = [pair_identity(buffer.pair) for buffer in buffers]
    if state["pairs"] != pairs:
        raise ValueError(
            f"{place} was written with the pair {state['pairs']}, the strategy has {pairs}; use the same pair"
        )
    plugins = [type(plugin).__name__ for plugin in strategy.plugins]
    if [name for name, _ in state["plugins"]] != plugins:
        saved = ", ".join(name for name, _ in state["plugins"])
        raise ValueError(f"{place} was written with the plugins {saved}, the strategy has {', '.join(plugins)}")
    for number, (buffer, kept) in enumerate(zip(buffers, state["buffers"], strict=True)):
        buffer.memory.read(place / _captions_file(number))
        buffer.load_state_dict(kept)
    _restore_model(strategy, state, buffers[0])
    for plugin, (_, remembered) in zip(strategy.plugins, state["plugins"], strict=True):
        load_plugin_state(plugin, remembered, strategy)
    for name, value in state["clock"].items():
        setattr(strategy.clock, name, value)
    histories = dict(state["metrics"])
    for name, metric in _metrics_with_history(strategy):
        _remind(metric, histories.get(name))
    _set_random_state(state["random"])
    learnt: int = strategy.clock.train_exp_counter
    return learnt


def _checkpoints(folder: Path) -> list[Path]:
    """The newest first."""
    return sorted((p for p in folder.glob("checkpoint-*") if p.suffix != ".partial"), key=_number, reverse=True)


def _number(place: Path) -> int:
    """How many experiences had been learnt."""
    number = place.name.removeprefix("checkpoint-")
    return int(number) if number.isdecimal() else -1


def _newest_whole(folder: Path) -> tuple[Path, dict[str, Any]]:
    damage = None
    for place in _checkpoints(folder):
        try:
            return place, _read(place)
        except _DamagedError as error:
            damage = damage or error
            warnings.warn(f"{error}; looking for an earlier one", stacklevel=3)
    if damage is not None:
        raise ValueError(f"{damage}, and there is no earlier one; remove {folder} to start anew") from damage
    raise FileNotFoundError(f"{folder} holds no checkpoint")


class _DamagedError(ValueError):
    pass


def _read(place: Path) -> dict[str, Any]:
    try:
        sums = json.loads((place / _SUMS).read_text(encoding="utf-8"))
        for name in {_STATE, _captions_file(0), *sums}:
            if sums[name] != _sha256(place / name):
                raise ValueError(f"{name} is not what was written")
        state: dict[str, Any] = read_state(place / _STATE)
        version = state["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _DamagedError(f"the checkpoint {place} is damaged ({error})") from error
    if version > _VERSION:
        raise ValueError(f"{place} was written by a newer version of avalanche-clts; update it to read this checkpoint")
    if version < _VERSION:
        raise ValueError(f"{place} was written by an older version of avalanche-clts; go on from it with that one")
    return state


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _metrics_with_history(strategy: Any) -> Iterator[tuple[str, Any]]:
    """Avalanche's metrics that compare an evaluation with earlier ones, by their names."""
    for metric in getattr(strategy.evaluator, "metrics", []):
        if hasattr(metric, "forgetting") or hasattr(metric, "forward_transfer"):
            yield str(metric), metric


_HISTORY = ("initial", "last", "previous")


def _remembered(metric: Any) -> dict[str, Any]:
    history = getattr(metric, "forgetting", None) or metric.forward_transfer
    values = {name: getattr(history, name) for name in _HISTORY if hasattr(history, name)}
    flags = {name: getattr(metric, name) for name in ("train_exp_id", "at_init") if hasattr(metric, name)}
    return {"history": values, "flags": flags}


def _remind(metric: Any, remembered: dict[str, Any] | None) -> None:
    if remembered is None:  # it was not among the saved strategy's metrics
        return
    history = getattr(metric, "forgetting", None) or metric.forward_transfer
    for owner, values in ((history, remembered["history"]), (metric, remembered["flags"])):
        for name, value in values.items():
            setattr(owner, name, value)


def _buffers(strategy: Any) -> list[CaptionBuffer]:
    buffers = caption_buffers(strategy) if hasattr(strategy, "plugins") else []
    if not buffers:
        raise ValueError(
            "strategy keeps no captions; checkpoints are for CLTS and for strategies with CaptionReplayPlugin"
        )
    return buffers


def _captions_file(number: int) -> str:
    return f"captions-{number}.jsonl.gz" if number else "captions.jsonl.gz"


def _require_known_state(strategy: Any) -> None:
    known = (RoutedModel, IncrementalClassifier, MultiTaskModule)
    parts = [strategy.model.template, strategy.model.router] if isinstance(strategy.model, RoutedModel) else None
    modules = [m for part in parts or [strategy.model] for m in part.modules()]
    growing = [type(m).__name__ for m in modules if isinstance(m, DynamicModule) and not isinstance(m, known)]
    keeps = isinstance(strategy, Cumulative) or isinstance(getattr(strategy, "storage_policy", None), ExemplarsBuffer)
    # Images, which no checkpoint holds; and who has no optimizer keeps in itself what it has learnt.
    own = [type(strategy).__name__] if keeps or strategy.optimizer is None else []
    if isinstance(strategy.model, RoutedModel) and type(strategy).make_optimizer.__module__.startswith("avalanche."):
        # It has the router's parameters as well, which come later than it: in another order after a resume.
        raise ValueError(
            f"strategy is a {type(strategy).__name__} with a RoutedModel, whose optimizer a checkpoint cannot put "
            "back; make it with CLTS(...)"
        )
    unknown = own + unknown_plugins(strategy.plugins) + growing
    if unknown:
        raise ValueError(
            f"strategy has {', '.join(dict.fromkeys(unknown))}, whose state this checkpoint cannot hold; leave it out, "
            "or give it state_dict() and load_state_dict()"
        )


def _restore_model(strategy: Any, state: dict[str, Any], buffer: CaptionBuffer) -> None:
    model = strategy.model.to(strategy.device)
    if isinstance(model, RoutedModel):
        model.template.load_state_dict(state["template"])
    lengths = {name: len(weight) for name, weight in state["model"].items() if weight.ndim}
    if not state["clock"]["train_iterations"]:  # the optimizer is still the one that it was built with
        _grow(model, {} if isinstance(model, RoutedModel) else lengths)
        model.load_state_dict(state["model"])
        return
    groups = state["optimizer"]["param_groups"]
    if not isinstance(model, RoutedModel) and sum(len(g["params"]) for g in groups) > len(state["optimized"]):
        # It was evaluated before it was trained: the parameters that the optimizer was built with were replaced at
        # once, and stay in their groups.
        _grow(model, state["optimized"])
    strategy.make_optimizer(reset_optimizer_state=True)  # which parameter is in which group, before any grows
    if isinstance(model, RoutedModel):
        model.load_state_dict(state["model"])
        strategy.make_optimizer(reset_optimizer_state=True)
        strategy.optimizer.load_state_dict(state["optimizer"])
        return
    # Evaluation on classes that are still to come grows classifiers too; the optimizer is told when training goes on.
    _grow(model, state["optimized"])
    for origin in buffer.origins:
        seen = adaptable(SimpleNamespace(), origin.classes, origin.task_labels)
        avalanche_model_adaptation(model, seen)
    strategy.make_optimizer(reset_optimizer_state=True)
    strategy.optimizer.load_state_dict(state["optimizer"])
    _grow(model, lengths)
    model.load_state_dict(state["model"])


def _optimized(strategy: Any) -> dict[str, int]:
    """The parameters that the optimizer has been told of, and how long each was then, where it has a length."""
    known: dict[str, torch.nn.Parameter] = strategy.optimized_param_id or {}
    return {name: len(parameter) for name, parameter in known.items() if parameter.ndim}


def _grow(model: torch.nn.Module, lengths: dict[str, int]) -> None:
    """Give classifiers the heads and the units of these parameters, as an evaluation does."""
    model.eval()
    for name, module in list(model.named_modules()):
        if not isinstance(module, (IncrementalClassifier, MultiHeadClassifier)):
            continue
        start = f"{name}." if name else ""
        for key, length in lengths.items():
            own = re.fullmatch(rf"{re.escape(start)}(?:classifiers\.(\d+)\.)?classifier\.weight", key)
            if own is not None:
                module.adaptation(adaptable(SimpleNamespace(), [length - 1], [int(own[1] or 0)]))
    model.train()


def _random_state() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [kind, torch.from_numpy(np.array(keys, dtype=np.int64)), *rest],
        "python": random.getstate(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])  # another machine may have fewer
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
