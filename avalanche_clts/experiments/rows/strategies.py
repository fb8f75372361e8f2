"""The strategies of a comparison: every baseline is Avalanche's own class."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer, ReservoirSamplingBuffer
from avalanche.training.supervised import (
    DER,
    ER_ACE,
    EWC,
    Cumulative,
    GDumb,
    JointTraining,
    LwF,
    Naive,
)
from avalanche.training.templates import SupervisedTemplate
from torch import nn
from torch.optim import Adam

from ...images.normalisation import Normalisation
from ...memory.buffer import CaptionBuffer
from ...metrics import module_nbytes
from ...models import RoutedModel
from ...pair.captioners import LabelCaptioner
from ...pair.loading import Pair
from ...plugins import CaptionReplayPlugin
from ...strategy import CLTS
from ...views import viewed
from ..settings import Settings
from . import peers
from .stored_images import stored_images
from .synthetic_data import SyntheticJointTraining

Results = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """What a strategy is built from.

    **Arguments:**

    - network: makes the network, given its number of outputs; called once for each copy that a strategy needs.
    - router: makes the router's network in the same way.
    - backbone: frozen, below every network. None: networks see the input.
    - num_classes: of the stream.
    - num_captions: as many as CLTS keeps of the whole stream, some of each class in each experience that shows it.
    - image_nbytes: bytes of a native image of the stream.
    - input_shape, value_range: of what the network sees, `(channels, height, width)` and smallest and largest value.
    - normalisation: of what the network sees; known where something must undo it.
    - clts: the finished CLTS run on the same stream and seed, whose memory sets the budgets of replay.
    """

    network: Callable[[int], nn.Module]
    router: Callable[[int], nn.Module]
    backbone: nn.Module | None
    num_classes: int
    num_captions: int
    image_nbytes: int
    input_shape: tuple[int, ...]
    value_range: tuple[float, float]
    normalisation: Normalisation
    settings: Settings
    pair: Pair
    evaluator: EvaluationPlugin
    device: str
    clts: Results | None = None

    def common(self, model: nn.Module, *, learning_rate: float | None = None) -> dict[str, Any]:
        """The arguments that are the same for every strategy. `learning_rate` None: that of the settings."""
        return {
            "model": model,
            "optimizer": Adam(model.parameters(), lr=learning_rate or self.settings.learning_rate),
            "criterion": nn.CrossEntropyLoss(),
            "train_mb_size": self.settings.train_mb_size,
            "train_epochs": self.settings.train_epochs,
            "eval_mb_size": self.settings.eval_mb_size,
            "device": self.device,
            "evaluator": self.evaluator,
        }

    def single(self) -> dict[str, Any]:
        """`common` around one network with an output for every class."""
        return self.common(self.whole_network())

    def whole_network(self) -> nn.Module:
        """A network with an output for every class, on the backbone if there is one."""
        network = self.network(self.num_classes)
        return network if self.backbone is None else nn.Sequential(self.backbone, network)

    @property
    def num_features(self) -> int:
        """Numbers that a network sees of an input."""
        if self.backbone is None:
            return math.prod(self.input_shape)
        return int(self.backbone(torch.zeros(1, *self.input_shape)).shape[1])

    def tuned(self, strategy: str) -> dict[str, Any]:
        """The hyper-parameters that the search chose for `strategy`."""
        return self.settings.tuned.get(strategy, {})

    @property
    def clts_memory(self) -> dict[str, int]:
        """The bytes that the CLTS run kept, by kind."""
        if self.clts is None:
            raise ValueError("this strategy's budget is that of CLTS; run clts on the same stream and seed first")
        memory: dict[str, int] = self.clts["memory_bytes"]
        return memory


def _joint(setup: Setup) -> SupervisedTemplate:
    return JointTraining(**setup.single())


def _naive(setup: Setup) -> SupervisedTemplate:
    return Naive(**setup.single())


def _ewc(setup: Setup) -> SupervisedTemplate:
    return EWC(**setup.single(), **setup.tuned("ewc"))


def _lwf(setup: Setup) -> SupervisedTemplate:
    return LwF(**setup.single(), **setup.tuned("lwf"))


def _si(setup: Setup) -> SupervisedTemplate:
    return peers.synaptic_intelligence(setup.single(), **{"si_lambda": 1.0} | setup.tuned("si"))


def _cumulative(setup: Setup) -> SupervisedTemplate:
    return Cumulative(**setup.single())


def _reservoir(setup: Setup) -> SupervisedTemplate:
    storage = ReservoirSamplingBuffer(setup.num_captions)
    replay = ReplayPlugin(setup.num_captions, storage_policy=storage, **setup.tuned("er-reservoir"))
    return Naive(**setup.single(), plugins=[replay])


def _der(setup: Setup) -> SupervisedTemplate:
    return DER(**setup.single(), mem_size=setup.num_captions, **setup.tuned("der++"))


def _er_ace(setup: Setup) -> SupervisedTemplate:
    return ER_ACE(**setup.single(), mem_size=setup.num_captions, **setup.tuned("er-ace"))


def _gdumb(setup: Setup) -> SupervisedTemplate:
    return GDumb(**setup.single() | setup.tuned("gdumb"), mem_size=setup.num_captions)


def _icarl(setup: Setup) -> SupervisedTemplate:
    tuned = dict(setup.tuned("icarl"))
    learning_rate = tuned.pop("learning_rate", setup.settings.learning_rate)
    common = setup.common(setup.whole_network(), learning_rate=learning_rate)
    return peers.icarl(common | tuned, mem_size=setup.num_captions)


def _generative_replay(setup: Setup) -> SupervisedTemplate:
    options = {"latent_dim": 16, "generator_epochs": setup.settings.train_epochs} | setup.tuned("generative-replay")
    return peers.generative_replay(setup.single(), shape=setup.input_shape, value_range=setup.value_range, **options)


def _expert_gate(setup: Setup) -> SupervisedTemplate:
    options = {"latent_dim": 100, "epochs": setup.settings.train_epochs} | setup.tuned("expert-gate")
    head = setup.network(setup.num_classes)
    return peers.expert_gate(
        setup.single(), head=head, backbone=setup.backbone, num_inputs=setup.num_features, **options
    )


def _synthetic(mixed: bool) -> Callable[[Setup], SupervisedTemplate]:
    def build(setup: Setup) -> SupervisedTemplate:
        buffer = CaptionBuffer(pair=setup.pair, captions_per_class=setup.settings.captions_per_class)
        return SyntheticJointTraining(**setup.single(), buffer=buffer, mixed=mixed)

    return build


def _clts(setup: Setup) -> SupervisedTemplate:
    settings = setup.settings
    if setup.backbone is None:
        _, height, width = setup.input_shape
        router = viewed(
            setup.router(setup.num_classes),
            settings.view,
            pair=setup.pair,
            size=(height, width),
            normalisation=setup.normalisation,
        )
    else:
        router = nn.Identity()  # a linear layer on the backbone, as every head is
    model = RoutedModel(
        head=setup.network(setup.num_classes),
        router=router,
        backbone=setup.backbone,
        routing=settings.routing,
        evidence=settings.evidence,
    )
    return CLTS(
        **setup.common(model),
        pair=_remembering(setup.pair, settings.memory),
        captions_per_class=setup.settings.captions_per_class,
        **setup.tuned("clts"),
    )


def _remembering(pair: Pair, memory: str) -> Pair:
    if memory == "images":
        return stored_images()
    return Pair(LabelCaptioner("a {class_name}"), pair.generator) if memory == "labels" else pair


def _caption_replay(setup: Setup) -> SupervisedTemplate:
    replay = CaptionReplayPlugin(pair=setup.pair, mem_size=setup.num_captions, **setup.tuned("caption-replay"))
    return Naive(**setup.single(), plugins=[replay])


def _replay(row: str, budget: Callable[[Setup], int]) -> Callable[[Setup], SupervisedTemplate]:
    """Experience replay with as many exemplars, in equal parts for all classes, as `budget` says."""

    def build(setup: Setup) -> SupervisedTemplate:
        mem_size = max(1, budget(setup))
        replay = ReplayPlugin(mem_size, storage_policy=ClassBalancedBuffer(mem_size), **setup.tuned(row))
        return Naive(**setup.single(), plugins=[replay])

    return build


def _total_budget(setup: Setup) -> int:
    clts = setup.clts_memory
    network = module_nbytes(setup.network(setup.num_classes))
    return max(0, clts["captions"] + clts["heads"] + clts["router"] - network) // setup.image_nbytes


@dataclass(frozen=True)
class Strategy:
    """A row of the comparison: what it is, in a phrase, and how it is built.

    **Arguments:**

    - after_clts: whether its memory budget is that of the CLTS run on the same stream and seed.
    - uses_pair: whether its outcome depends on the pair.
    - compared: whether it is a row of the comparison; if not, it serves an ablation.
    - unfit: why it cannot run on a benchmark. None: it can.
    """

    description: str
    build: Callable[[Setup], SupervisedTemplate]
    after_clts: bool = False
    uses_pair: bool = False
    compared: bool = True
    unfit: Callable[[Any], str | None] = lambda benchmark: None

    @property
    def needs_pair(self) -> bool:
        """Whether a run, or the budget of a run, depends on the pair."""
        return self.uses_pair or self.after_clts


STRATEGIES: dict[str, Strategy] = {
    "joint": Strategy("all data at once: the upper bound", _joint),
    "cumulative": Strategy("all data so far, after each experience", _cumulative),
    "clts": Strategy("task heads behind a router trained on images regenerated from captions", _clts, uses_pair=True),
    "caption-replay": Strategy(
        "one network, replay of images regenerated from as many captions", _caption_replay, uses_pair=True
    ),
    "er-bytes": Strategy(
        "replay of as many real images as fit in the bytes of CLTS's captions, one at least",
        _replay("er-bytes", lambda s: s.clts_memory["captions"] // s.image_nbytes),
        after_clts=True,
    ),
    "er-count": Strategy(
        "replay of as many real images as CLTS has captions", _replay("er-count", lambda s: s.num_captions)
    ),
    "er-63x": Strategy(
        "replay of as many real images as fit in 63 times the bytes of CLTS's captions",
        _replay("er-63x", lambda s: 63 * s.clts_memory["captions"] // s.image_nbytes),
        after_clts=True,
    ),
    "er-total": Strategy(
        "replay of real images until network and images weigh as much as CLTS's captions, heads and router",
        _replay("er-total", _total_budget),
        after_clts=True,
    ),
    "er-reservoir": Strategy("replay of as many real images as captions, kept by reservoir sampling", _reservoir),
    "er-ace": Strategy("replay with an asymmetric cross-entropy, as many images as captions", _er_ace),
    "der++": Strategy("dark experience replay, as many images (with logits) as captions", _der),
    "gdumb": Strategy("trained from scratch on as many stored images as captions", _gdumb),
    "icarl": Strategy(
        "nearest class mean of features, as many exemplars as captions", _icarl, unfit=peers.unfit_for_icarl
    ),
    "generative-replay": Strategy("replay of images from a VAE that learns the stream", _generative_replay),
    "expert-gate": Strategy("task heads behind autoencoders: the best reconstruction picks the head", _expert_gate),
    "ewc": Strategy("elastic weight consolidation", _ewc),
    "lwf": Strategy("learning without forgetting", _lwf),
    "si": Strategy("synaptic intelligence", _si),
    "naive": Strategy("plain fine-tuning: the lower bound", _naive),
    "joint-synthetic": Strategy(
        "all data at once, regenerated from captions", _synthetic(False), uses_pair=True, compared=False
    ),
    "joint-mixed": Strategy("all data at once, real and regenerated", _synthetic(True), uses_pair=True, compared=False),
}
COMPARED = [name for name, strategy in STRATEGIES.items() if strategy.compared]
