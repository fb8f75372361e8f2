"""A strategy's state between two experiences, on disk: safetensors and JSON, never pickle, and never an image."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from avalanche.models import DynamicModule
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.plugins.clock import Clock
from avalanche.training.templates.base_sgd import PeriodicEval

from ._support.files import read_state, to_disk, write_state
from .memory.buffer import CaptionBuffer
from .metrics import caption_buffer, synthesis_seconds
from .models import HeadRecord, RoutedModel
from .pair.loading import pair_identity
from .plugins import CaptionReplayPlugin, CLTSPlugin

_VERSION = 1
_STATE, _CAPTIONS, _SUMS = "state.safetensors", "captions.jsonl.gz", "checksums.json"
_KEPT = 2  # checkpoints: the newest, and the one before it, should the newest turn out to be damaged


def save_checkpoint(strategy: Any, folder: str | os.PathLike[str]) -> None:
    """Write what `strategy` needs to go on with its next experience.

    Holds the model, the optimizer, the captions, counters, random state, and what forgetting and backward and forward
    transfer remember of earlier evaluations. The pair's weights are not in it, only their names; neither is any image,
    real or generated. Written beside and renamed when whole, with checksums; the one before it is kept.

    **Arguments:**

    - strategy: a `CLTS`, or a `Naive` with a `CaptionReplayPlugin`, between two calls of `train`.
    - folder: of this strategy's checkpoints; made if missing.

    Raises `ValueError` for a strategy without captions, for one whose other plugins (EWC, LwF, ...) or growing
    classifiers hold state that this format does not know, and for a folder that holds checkpoints of a longer run.
    """
    folder = Path(folder)
    buffer = _buffer(strategy)
    _require_known_state(strategy)
    place = folder / f"checkpoint-{buffer.num_experiences:04d}"
    for other in _checkpoints(folder)[:1]:
        if other.name > place.name:
            raise ValueError(
                f"{folder} holds {other.name}, and strategy has learnt {buffer.num_experiences} experiences: it is of "
                "another run; choose another folder, or go on from what it holds with load_checkpoint"
            )
    partial = place.with_name(place.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    buffer.memory.write(partial / _CAPTIONS)
    write_state(
        partial / _STATE,
        {
            "version": _VERSION,
            "buffer": {name: getattr(buffer, name) for name in ("first_seed", "num_written", "num_experiences")},
            "faults": buffer.faults,
            "counts": {name: getattr(owner, name) for owner, name in _counts(strategy, buffer)},
            "seconds": synthesis_seconds(strategy),
            "pair": pair_identity(buffer.pair),
            "model": strategy.model.state_dict(),
            "heads": _heads(strategy.model),
            "optimizer": strategy.optimizer.state_dict(),
            "clock": vars(strategy.clock),
            "metrics": [[name, _remembered(metric)] for name, metric in _metrics_with_history(strategy)],
            "random": _random_state(),
        },
    )
    (partial / _SUMS).write_text(json.dumps({name: _sha256(partial / name) for name in (_STATE, _CAPTIONS)}))
    for file in partial.iterdir():
        to_disk(file)
    shutil.rmtree(place, ignore_errors=True)  # of the same experience, saved before
    partial.rename(place)
    for old in _checkpoints(folder)[_KEPT:]:
        shutil.rmtree(old)


def load_checkpoint(strategy: Any, folder: str | os.PathLike[str]) -> int:
    """Put the state that `save_checkpoint` wrote into `strategy`, and return the index of the next experience to train.

    Where the newest checkpoint is damaged, it says so in a warning and takes the one before.

    **Arguments:**

    - strategy: built like the one that was saved, and not trained yet.

    Raises `FileNotFoundError` where there is no checkpoint, and `ValueError` for one that is newer than this version of
    the library, or of another pair, and where all are damaged.
    """
    folder = Path(folder)
    buffer = _buffer(strategy)
    place, state = _newest_whole(folder)
    pair = pair_identity(buffer.pair)
    if state["pair"] != pair:
        raise ValueError(
            f"{place} was written with the pair {state['pair']}, the strategy has {pair}; use the same pair"
        )
    buffer.memory.read(place / _CAPTIONS)
    for name, value in state["buffer"].items():
        setattr(buffer, name, value)
    buffer.faults = state["faults"]
    for owner, name in _counts(strategy, buffer):
        setattr(owner, name, state.get("counts", {}).get(name, 0))  # there were none in the first checkpoints
    _restore_seconds(strategy, buffer, state["seconds"])
    _restore_model(strategy, state)
    for name, value in state["clock"].items():
        setattr(strategy.clock, name, value)
    remembered = dict(state["metrics"])
    for name, metric in _metrics_with_history(strategy):
        _remind(metric, remembered.get(name))
    _set_random_state(state["random"])
    return buffer.num_experiences


def _checkpoints(folder: Path) -> list[Path]:
    """The newest first."""
    return sorted((p for p in folder.glob("checkpoint-*") if p.suffix != ".partial"), reverse=True)


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
        for name in (_STATE, _CAPTIONS):
            if sums[name] != _sha256(place / name):
                raise ValueError(f"{name} is not what was written")
        state: dict[str, Any] = read_state(place / _STATE)
        version = state["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _DamagedError(f"the checkpoint {place} is damaged ({error})") from error
    if version > _VERSION:
        raise ValueError(f"{place} was written by a newer version of avalanche-clts; update it to read this checkpoint")
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


def _buffer(strategy: Any) -> CaptionBuffer:
    buffer = caption_buffer(strategy) if hasattr(strategy, "plugins") else None
    if buffer is None:
        raise ValueError(
            "strategy keeps no captions; checkpoints are for CLTS and for strategies with CaptionReplayPlugin"
        )
    return buffer


def _counts(strategy: Any, buffer: CaptionBuffer) -> list[tuple[Any, str]]:
    """Whoever counts faults beside the buffer, and the name of its count."""
    owners = [(buffer.pair.generator, "num_cut_prompts"), *((plugin, "num_discarded") for plugin in strategy.plugins)]
    return [(owner, name) for owner, name in owners if hasattr(owner, name)]


def _require_known_state(strategy: Any) -> None:
    known = (CLTSPlugin, CaptionReplayPlugin, EvaluationPlugin, PeriodicEval, Clock)
    plugins = [type(plugin).__name__ for plugin in strategy.plugins if not isinstance(plugin, known)]
    growing = [
        type(module).__name__
        for module in strategy.model.modules()
        if isinstance(module, DynamicModule) and not isinstance(module, RoutedModel)
    ]
    if plugins or growing:
        raise ValueError(f"strategy has {', '.join(plugins + growing)}, whose state this checkpoint cannot hold")


def _heads(model: Any) -> Any:
    if not isinstance(model, RoutedModel):
        return None
    return {
        "records": [[record.classes, record.task_labels, record.experience] for record in model.records],
        "experience_of_unit": model.router.experience_of_unit,
        "router_features": model.num_router_features,
        "template": model.template.state_dict(),
    }


def _restore_model(strategy: Any, state: dict[str, Any]) -> None:
    model = strategy.model.to(strategy.device)
    if isinstance(model, RoutedModel):
        model.num_router_features = state["heads"]["router_features"]
        model.router.grow(state["heads"]["experience_of_unit"], model.num_router_features)
        model.template.load_state_dict(state["heads"]["template"])
        for classes, labels, experience in state["heads"]["records"]:
            model.add_head(HeadRecord(tuple(classes), tuple(labels), experience))
    model.load_state_dict(state["model"])
    strategy.make_optimizer(reset_optimizer_state=True)
    strategy.optimizer.load_state_dict(state["optimizer"])


def _restore_seconds(strategy: Any, buffer: CaptionBuffer, seconds: dict[str, float]) -> None:
    buffer.seconds = {kind: seconds[kind] for kind in buffer.seconds}
    for plugin in strategy.plugins:
        if isinstance(plugin, CLTSPlugin):
            plugin.router_seconds = seconds["router"]


def _random_state() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.from_numpy(np.array(keys, dtype=np.int64)), *rest],
        "python": random.getstate(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
