"""A strategy's state between two experiences, on disk: safetensors and JSON, never pickle, and never an image."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from avalanche.models import DynamicModule
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.plugins.clock import Clock
from avalanche.training.templates.base_sgd import PeriodicEval

from .buffer import CaptionBuffer
from .metrics import caption_buffer, synthesis_seconds
from .models import HeadRecord, RoutedModel
from .pairs import pair_identity
from .plugins import CaptionReplayPlugin, CLTSPlugin
from .serialization import read_state, write_state

_VERSION = 1
_STATE = "state.safetensors"


def save_checkpoint(strategy: Any, folder: str | os.PathLike[str]) -> None:
    """Write what `strategy` needs to go on with its next experience.

    Holds the model, the optimizer, the captions, counters and random state. The pair's weights are not in it, only
    their names; neither is any image, real or generated.

    **Arguments:**

    - strategy: a `CLTS`, or a `Naive` with a `CaptionReplayPlugin`, between two calls of `train`.
    - folder: made if missing; a checkpoint in it is replaced once the new one is whole.

    Raises `ValueError` for a strategy without captions, and for one whose other plugins (EWC, LwF, ...) or growing
    classifiers hold state that this format does not know.
    """
    folder = Path(folder)
    buffer = _buffer(strategy)
    _require_known_state(strategy)
    folder.mkdir(parents=True, exist_ok=True)
    captions = f"captions-{buffer.num_experiences:04d}.jsonl.gz"
    buffer.memory.write(folder / captions)
    write_state(
        folder / _STATE,
        {
            "version": _VERSION,
            "captions": captions,
            "buffer": {name: getattr(buffer, name) for name in ("first_seed", "num_written", "num_experiences")},
            "seconds": synthesis_seconds(strategy),
            "pair": pair_identity(buffer.pair),
            "model": strategy.model.state_dict(),
            "heads": _heads(strategy.model),
            "optimizer": strategy.optimizer.state_dict(),
            "clock": vars(strategy.clock),
            "random": _random_state(),
        },
    )
    for old in folder.glob("captions-*.jsonl.gz"):
        if old.name != captions:
            old.unlink()


def load_checkpoint(strategy: Any, folder: str | os.PathLike[str]) -> int:
    """Put the state that `save_checkpoint` wrote into `strategy`, and return the index of the next experience to train.

    **Arguments:**

    - strategy: built like the one that was saved, and not trained yet.

    Raises `FileNotFoundError` where there is no checkpoint, and `ValueError` for one that is damaged, newer than this
    version of the library, or of another pair.
    """
    folder = Path(folder)
    buffer = _buffer(strategy)
    if not (folder / _STATE).exists():
        raise FileNotFoundError(f"{folder} holds no checkpoint ({_STATE} is missing)")
    state = read_state(folder / _STATE)
    if state["version"] > _VERSION:
        raise ValueError(
            f"{folder} was written by a newer version of avalanche-clts; update it to read this checkpoint"
        )
    pair = pair_identity(buffer.pair)
    if state["pair"] != pair:
        raise ValueError(
            f"{folder} was written with the pair {state['pair']}, the strategy has {pair}; use the same pair"
        )
    buffer.memory.read(folder / state["captions"])
    for name, value in state["buffer"].items():
        setattr(buffer, name, value)
    _restore_seconds(strategy, buffer, state["seconds"])
    _restore_model(strategy, state)
    for name, value in state["clock"].items():
        setattr(strategy.clock, name, value)
    _set_random_state(state["random"])
    return buffer.num_experiences


def _buffer(strategy: Any) -> CaptionBuffer:
    buffer = caption_buffer(strategy)
    if buffer is None:
        raise ValueError(
            "strategy keeps no captions; checkpoints are for CLTS and for strategies with CaptionReplayPlugin"
        )
    return buffer


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
