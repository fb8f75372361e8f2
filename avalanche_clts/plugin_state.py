"""What plugins remember between experiences, as nested tensors, numbers and texts; for checkpoints."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from avalanche.training.plugins import (
    EarlyStoppingPlugin,
    EvaluationPlugin,
    EWCPlugin,
    FeatureDistillationPlugin,
    LFLPlugin,
    LRSchedulerPlugin,
    LwFPlugin,
    MASPlugin,
    SynapticIntelligencePlugin,
)
from avalanche.training.plugins.clock import Clock
from avalanche.training.templates.base_sgd import PeriodicEval
from avalanche.training.utils import ParamData

from .memory.buffer import CaptionBuffer

State = dict[str, Any]


@runtime_checkable
class Stateful(Protocol):
    """A plugin that says itself what it remembers."""

    def state_dict(self) -> State:
        """Nested dicts, lists, tensors, numbers, texts and None."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Put back what `state_dict` gave."""
        ...


class _Handler(NamedTuple):
    save: Callable[[Any], State]
    load: Callable[[Any, State, Any], None]  # plugin, state, strategy


def plugin_state(plugin: Any) -> State | None:
    """What a plugin remembers; None where nobody knows how to write it down."""
    handler = _handler(plugin)
    if handler is not None:
        return handler.save(plugin)
    if isinstance(plugin, Stateful):
        return plugin.state_dict()
    keeps_captions = isinstance(getattr(plugin, "storage_policy", None), CaptionBuffer)
    return {} if keeps_captions or not vars(plugin) else None


def load_plugin_state(plugin: Any, state: State, strategy: Any) -> None:
    """Put back what `plugin_state` gave."""
    handler = _handler(plugin)
    if handler is not None:
        handler.load(plugin, state, strategy)
    elif isinstance(plugin, Stateful):
        plugin.load_state_dict(state)


def _handler(plugin: Any) -> _Handler | None:
    """What is known of a plugin's kind, unless it is of a kind of its own that says itself what it remembers."""
    if type(plugin) not in _HANDLERS and isinstance(plugin, Stateful):
        return None
    return next((_HANDLERS[kind] for kind in type(plugin).__mro__ if kind in _HANDLERS), None)


def _params(kept: dict[str, ParamData] | None) -> Any:
    return None if kept is None else {name: [param.name, param.data] for name, param in kept.items()}


def _as_params(state: Any) -> Any:
    if state is None:
        return None
    return {k: ParamData(name, init_tensor=data, device=data.device) for k, (name, data) in state.items()}


def _save_ewc(plugin: Any) -> State:
    return {name: {t: _params(kept) for t, kept in getattr(plugin, name).items()} for name in _EWC}


def _load_ewc(plugin: Any, state: State, strategy: Any) -> None:
    for name in _EWC:
        by_experience = {int(t): _as_params(_to(kept, strategy.device)) for t, kept in state[name].items()}
        setattr(plugin, name, defaultdict(dict, by_experience))


_EWC = ("saved_params", "importances")


def _save_si(plugin: Any) -> State:
    return {"ewc": [_params(d) for d in plugin.ewc_data], "syn": {k: _params(d) for k, d in plugin.syn_data.items()}}


def _load_si(plugin: Any, state: State, strategy: Any) -> None:
    state = _to(state, strategy.device)
    plugin.ewc_data = tuple(_as_params(kept) for kept in state["ewc"])
    plugin.syn_data = {name: _as_params(kept) for name, kept in state["syn"].items()}


def _save_mas(plugin: Any) -> State:
    return {"params": _params(plugin.params), "importance": _params(plugin.importance)}


def _load_mas(plugin: Any, state: State, strategy: Any) -> None:
    state = _to(state, strategy.device)
    plugin.params, plugin.importance = _as_params(state["params"]), _as_params(state["importance"])


def _save_lwf(plugin: Any) -> State:
    lwf = plugin.lwf
    classes = {task: sorted(map(int, known)) for task, known in lwf.prev_classes_by_task.items()}
    return {**_save_teacher(lwf), "classes": classes, "expcount": lwf.expcount}


def _load_lwf(plugin: Any, state: State, strategy: Any) -> None:
    lwf = plugin.lwf
    _load_teacher(lwf, state, strategy)
    lwf.prev_classes_by_task = defaultdict(set, {int(t): set(known) for t, known in state["classes"].items()})
    lwf.expcount = state["expcount"]


def _save_teacher(owner: Any) -> State:
    return {"teacher": None if owner.prev_model is None else owner.prev_model.state_dict()}


def _load_teacher(owner: Any, state: State, strategy: Any) -> None:
    if state["teacher"] is not None:  # a copy of the model as it was at the end of the last experience
        owner.prev_model = copy.deepcopy(strategy.model)
        owner.prev_model.load_state_dict(state["teacher"])
        owner.prev_model.requires_grad_(False)


def _save_schedule(plugin: Any) -> State:
    scheduler = plugin.scheduler
    return {"scheduler": scheduler.state_dict(), "base_lrs": list(scheduler.base_lrs)}


def _load_schedule(plugin: Any, state: State, strategy: Any) -> None:
    scheduler = plugin.scheduler
    counted = {name for name, value in vars(scheduler).items() if isinstance(value, Counter)}
    loaded = {name: Counter(value) if name in counted else value for name, value in state["scheduler"].items()}
    scheduler.load_state_dict(loaded)
    scheduler.base_lrs = state["base_lrs"]


def _to(node: Any, device: torch.device) -> Any:
    if isinstance(node, torch.Tensor):
        return node.to(device)
    if isinstance(node, dict):
        return {key: _to(value, device) for key, value in node.items()}
    return [_to(value, device) for value in node] if isinstance(node, list) else node


def _nothing_to_load(plugin: Any, state: State, strategy: Any) -> None:
    """It begins every experience anew, or is saved with the strategy."""


_NOTHING = _Handler(lambda plugin: {}, _nothing_to_load)
_HANDLERS: dict[type, _Handler] = {
    EWCPlugin: _Handler(_save_ewc, _load_ewc),
    SynapticIntelligencePlugin: _Handler(_save_si, _load_si),
    MASPlugin: _Handler(_save_mas, _load_mas),
    LwFPlugin: _Handler(_save_lwf, _load_lwf),
    LFLPlugin: _Handler(_save_teacher, _load_teacher),
    FeatureDistillationPlugin: _Handler(_save_teacher, _load_teacher),
    LRSchedulerPlugin: _Handler(_save_schedule, _load_schedule),
    EarlyStoppingPlugin: _NOTHING,
    EvaluationPlugin: _NOTHING,
    PeriodicEval: _NOTHING,
    Clock: _NOTHING,
}


def unknown_plugins(plugins: Iterable[Any]) -> list[str]:
    """Names of the classes of plugins that cannot be written down."""
    return [type(plugin).__name__ for plugin in plugins if plugin_state(plugin) is None]
