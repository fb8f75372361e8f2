"""Bytes that a strategy keeps between experiences, asked of whoever keeps something.

A plugin or strategy that keeps state and says nothing counts as unknown, never as 0. It says so with a method
`kept_bytes()`, which gives the bytes of each kind that it keeps; of Avalanche's own it is known here.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.evaluation import PluginMetric
from avalanche.training.losses import ICaRLLossPlugin
from avalanche.training.plugins import (
    AGEMPlugin,
    BiCPlugin,
    CoPEPlugin,
    CWRStarPlugin,
    EarlyStoppingPlugin,
    EvaluationPlugin,
    EWCPlugin,
    FeatureDistillationPlugin,
    FromScratchTrainingPlugin,
    GDumbPlugin,
    GEMPlugin,
    GenerativeReplayPlugin,
    GSS_greedyPlugin,
    LFLPlugin,
    LRSchedulerPlugin,
    LwFPlugin,
    MASPlugin,
    MIRPlugin,
    ReplayPlugin,
    RWalkPlugin,
    SynapticIntelligencePlugin,
    TrainGeneratorAfterExpPlugin,
)
from avalanche.training.plugins.clock import Clock
from avalanche.training.storage_policy import ExemplarsBuffer
from avalanche.training.supervised import DER, ER_ACE, Cumulative, Naive, StreamingLDA
from avalanche.training.supervised.icarl import _ICaRLPlugin
from avalanche.training.templates.base_sgd import PeriodicEval
from avalanche.training.utils import ParamData
from torch import Tensor, nn

from .memory.buffer import CaptionBuffer
from .models import RoutedModel
from .pair.loading import part_nbytes

Kind = str
KINDS: tuple[Kind, ...] = ("captions", "exemplars", "heads", "router", "network")


@runtime_checkable
class SaysWhatItKeeps(Protocol):
    """A plugin, or a strategy, that keeps something and says how much."""

    def kept_bytes(self) -> Mapping[Kind, int]:
        """Bytes that it keeps between experiences, by kind: one or more of `KINDS`."""
        ...


class _Keeps(NamedTuple):
    """Attributes in which a class of Avalanche's keeps something.

    **Arguments:**

    - network: copies, importances and statistics of the network, counted as they are.
    - exemplars: stored images, counted as native pixels.
    - logits: what is stored with the images, counted as it is.
    """

    network: Sequence[str] = ()
    exemplars: Sequence[str] = ()
    logits: Sequence[str] = ()


_NOTHING = _Keeps()
# Storage policies are asked wherever they are. What serves an experience while it is trained is not kept.
_KNOWN: dict[type, _Keeps] = {
    AGEMPlugin: _Keeps(exemplars=["buffers"]),
    BiCPlugin: _Keeps(network=["model_old", "bias_layer"], exemplars=["val_buffer"]),
    CoPEPlugin: _Keeps(network=["p_mem"]),
    CWRStarPlugin: _NOTHING,  # its weights are in the model
    EWCPlugin: _Keeps(network=["saved_params", "importances"]),
    FeatureDistillationPlugin: _Keeps(network=["prev_model"]),
    FromScratchTrainingPlugin: _Keeps(network=["initial_weights"]),
    GDumbPlugin: _NOTHING,
    GEMPlugin: _Keeps(exemplars=["memory_x"]),
    GenerativeReplayPlugin: _Keeps(network=["generator"]),
    GSS_greedyPlugin: _Keeps(exemplars=["ext_mem_list_current_index"]),
    ICaRLLossPlugin: _Keeps(network=["old_model"]),
    LFLPlugin: _Keeps(network=["prev_model"]),
    LwFPlugin: _Keeps(network=["lwf.prev_model"]),
    MASPlugin: _Keeps(network=["params", "importance"]),
    MIRPlugin: _NOTHING,
    ReplayPlugin: _NOTHING,
    RWalkPlugin: _Keeps(network=["exp_scores", "exp_params", "exp_importance", "exp_penalties"]),
    SynapticIntelligencePlugin: _Keeps(network=["ewc_data", "syn_data.cum_trajectory"]),
    TrainGeneratorAfterExpPlugin: _NOTHING,
    _ICaRLPlugin: _Keeps(exemplars=["x_memory"]),  # class means are in the model
    Cumulative: _Keeps(exemplars=["dataset"]),
    DER: _Keeps(logits=["storage_policy.buffer.logits"]),
    ER_ACE: _NOTHING,
    StreamingLDA: _Keeps(network=["muK", "cK", "Sigma", "Lambda"]),
    # While it trains, the best weights; gone with the experience.
    EarlyStoppingPlugin: _NOTHING,
    **dict.fromkeys((EvaluationPlugin, LRSchedulerPlugin, Clock, PeriodicEval, PluginMetric), _NOTHING),
}


def memory_bytes(strategy: Any, *, image_nbytes: int = 0) -> dict[Kind, int | None]:
    """Bytes that a strategy keeps between experiences, by kind; None where a plugin keeps what nobody knows of.

    - captions: as written to disk, compressed, of all its caption memories.
    - exemplars: stored images as raw uint8, `image_nbytes` each (height x width x channels of the native image), and
        the logits that DER stores with them.
    - heads, router: parameters and buffers of a `RoutedModel`'s.
    - network: parameters and buffers of any other model, and what plugins keep of it, or beside it: copies,
        importances, generators.

    The pretrained pair and a frozen pretrained backbone are not among them; see `frozen_bytes`.
    """
    model = strategy.model
    total: Counter[Kind] = Counter()
    total["captions"] = sum(buffer.memory.nbytes for buffer in caption_buffers(strategy))
    total["exemplars"] = num_exemplars(strategy) * image_nbytes
    if isinstance(model, RoutedModel):
        router = module_nbytes(model.router) + _nbytes_out_of_sight(model.router)  # its own backbone, if it has one
        total |= {"heads": module_nbytes(model.heads), "router": router}
    else:
        total["network"] = module_nbytes(model)
    unknown = False
    for keeper in _keepers(strategy):
        if isinstance(keeper, SaysWhatItKeeps):
            total.update(keeper.kept_bytes())
        elif (known := _known(keeper)) is not None:
            total["network"] += sum(_nbytes(_attribute(keeper, name)) for name in known.network)
            total["exemplars"] += sum(_nbytes(_attribute(keeper, name)) for name in known.logits)
        else:
            unknown = unknown or _holds_state(keeper, strategy)
    return {kind: None if unknown and kind in ("exemplars", "network") else int(total[kind]) for kind in KINDS}


def frozen_bytes(strategy: Any) -> dict[str, int]:
    """Bytes of what is pretrained, frozen and the same for every stream: the pairs and a shared backbone."""
    parts = [part for buffer in caption_buffers(strategy) for part in buffer.pair]
    asked = [getattr(keeper, "asked_captioner", None) for keeper in (strategy.model, *_keepers(strategy))]
    used = {id(part): part for part in (*parts, *asked) if part is not None}
    model = strategy.model
    backbone = getattr(model, "backbone", None)
    below = _nbytes_out_of_sight(model) if not isinstance(model, RoutedModel) else 0
    if isinstance(backbone, nn.Module):
        below = module_nbytes(backbone) + _nbytes_out_of_sight(backbone)
    return {"pair": sum(part_nbytes(part) or 0 for part in used.values()), "backbone": below}


def num_exemplars(strategy: Any) -> int:
    """How many real images the strategy keeps, as far as is known."""
    count = sum(len(policy.buffer) for policy in _policies(strategy) if not isinstance(policy, CaptionBuffer))
    for keeper in _keepers(strategy):
        for name in (_known(keeper) or _NOTHING).exemplars:
            count += _num_samples(_attribute(keeper, name))
    return count


def caption_buffers(strategy: Any) -> list[CaptionBuffer]:
    """The strategy's memories of captions."""
    return [policy for policy in _policies(strategy) if isinstance(policy, CaptionBuffer)]


def module_nbytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])


def _nbytes_out_of_sight(module: nn.Module) -> int:
    """Bytes of the frozen networks that modules in it use and do not contain, which say so by `frozen_nbytes`."""
    return sum(getattr(part, "frozen_nbytes", 0) for part in module.modules())


def _keepers(strategy: Any) -> list[Any]:
    return [strategy, *getattr(strategy, "plugins", [])]


def _policies(strategy: Any) -> list[ExemplarsBuffer]:
    found = [getattr(keeper, "storage_policy", None) for keeper in _keepers(strategy)]
    return list({id(policy): policy for policy in found if isinstance(policy, ExemplarsBuffer)}.values())


def _known(keeper: Any) -> _Keeps | None:
    return next((_KNOWN[kind] for kind in type(keeper).__mro__ if kind in _KNOWN), None)


def _attribute(keeper: Any, path: str) -> Any:
    for name in path.split("."):
        keeper = keeper.get(name) if isinstance(keeper, Mapping) else getattr(keeper, name, None)
    return keeper


def _nbytes(kept: Any) -> int:
    if isinstance(kept, nn.Module):
        return module_nbytes(kept)
    if isinstance(kept, ParamData):
        kept = kept.data
    if isinstance(kept, (Tensor, np.ndarray)):
        return int(kept.nbytes)
    return sum(map(_nbytes, _parts(kept)))


def _num_samples(kept: Any) -> int:
    if isinstance(kept, int):
        return kept
    if isinstance(kept, ExemplarsBuffer):
        kept = kept.buffer
    if isinstance(kept, (AvalancheDataset, Tensor, np.ndarray)):
        return len(kept)
    return sum(map(_num_samples, _parts(kept)))


def _parts(kept: Any) -> Iterable[Any]:
    if isinstance(kept, Mapping):
        return kept.values()
    return kept if isinstance(kept, Iterable) and not isinstance(kept, (str, bytes)) else ()


def _holds_state(keeper: Any, strategy: Any) -> bool:
    """Whether an object of an unknown class has tensors, networks or data of its own."""
    template = _template_attributes() if keeper is strategy else frozenset(["storage_policy"])
    seen = {id(strategy), id(strategy.model), id(strategy.optimizer), *map(id, strategy.model.modules())}
    seen |= {id(tensor) for tensor in chain(strategy.model.parameters(), strategy.model.buffers())}
    values = [value for name, value in vars(keeper).items() if name not in template]
    return any(_is_state(value, seen) for value in values)


def _is_state(value: Any, seen: set[int]) -> bool:
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, nn.Module):
        return module_nbytes(value) > 0 and not all(id(p) in seen for p in value.parameters())
    if isinstance(value, (Tensor, np.ndarray)):
        return bool(value.size if isinstance(value, np.ndarray) else value.numel())
    if isinstance(value, (AvalancheDataset, ExemplarsBuffer)):
        return _num_samples(value) > 0
    if isinstance(value, ParamData):
        return True
    return any(_is_state(part, seen) for part in _parts(value)) if isinstance(value, (Mapping, list, tuple)) else False


def _template_attributes() -> frozenset[str]:
    """What every strategy of Avalanche's has, of which what is kept is counted elsewhere."""
    network = nn.Linear(1, 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No loggers specified")  # which it needs none of
        plain = Naive(model=network, optimizer=torch.optim.SGD(network.parameters(), lr=1.0), evaluator=None)
    return frozenset(vars(plain)) | {"storage_policy"}
