"""What CLTS is not trained with, told before anything is trained."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import (
    CoPEPlugin,
    FromScratchTrainingPlugin,
    GDumbPlugin,
    LwFPlugin,
    RARPlugin,
    RWalkPlugin,
)
from avalanche.training.supervised import Cumulative, JointTraining
from torch import Tensor, nn

from ._support.checks import as_whole
from .images.avalanche import Part, classes_of, first_sample, part_of, single_last_sample
from .images.consistency import same_draws
from .memory.buffer import CaptionBuffer
from .models import RoutedModel
from .routers import Augment, OptimizerFactory, RouterTraining, TaskRouter

_OWN = __name__.partition(".")[0]  # of what is said, ours change nothing
_logger = logging.getLogger("avalanche_clts")
# Whose training is no sequence of experiences, each with a head of its own.
_UNFIT = {
    JointTraining: "trains on all experiences at once",
    Cumulative: "trains every head on all experiences so far",
    GDumbPlugin: "trains the model anew for every experience",
    FromScratchTrainingPlugin: "sets the model back, frozen heads too, before every experience",
    LwFPlugin: "keeps new heads like old ones",
    RWalkPlugin: "weighs parameters that were there from the start",
    RARPlugin: "traces the model, which asks its heads by what the router says",
}


def require_routed_sequence(strategy: Any) -> None:
    """Raise `TypeError` or `ValueError` for a strategy that is no sequence of experiences behind a Task Router."""
    model = strategy.model
    if not isinstance(model, RoutedModel):
        raise TypeError(f"model is a {type(model).__name__}; CLTS needs a RoutedModel(head=..., router=...)")
    if not isinstance(model.router, TaskRouter):
        raise TypeError(f"router is a {type(model.router).__name__}; CLTS teaches a TaskRouter, or a network")
    for part in (strategy, *strategy.plugins):
        for unfit, reason in _UNFIT.items():
            if isinstance(part, unfit):
                raise ValueError(f"{type(part).__name__} {reason}; CLTSPlugin does not go with it, leave either out")


def require_one_of_its_kind(plugin: SupervisedPlugin, strategy: Any) -> None:
    """Raise `ValueError` where a strategy has another plugin of the same kind, which would do all of it again."""
    if sum(isinstance(other, type(plugin)) for other in strategy.plugins) > 1:
        name = type(plugin).__name__
        raise ValueError(f"this strategy has more than one {name}; leave one out (CLTS brings its own)")


def require_last_word(asking: SupervisedPlugin, strategy: Any) -> None:
    """Raise `ValueError` where a plugin changes what is said after the captioner was asked.

    **Arguments:**

    - asking: the plugin that asks it.
    """
    plugins = list(strategy.plugins)
    for plugin in plugins[plugins.index(asking) + 1 :]:
        changes = getattr(type(plugin), "after_eval_forward", None) not in (None, SupervisedPlugin.after_eval_forward)
        if changes and not isinstance(plugin, type(asking)) and not type(plugin).__module__.startswith(_OWN):
            raise ValueError(
                f"{type(plugin).__name__} acts on what is said after AskCaptionerPlugin, which must be the last: "
                "add it when the strategy is built, strategy.plugins.append(AskCaptionerPlugin(pair=pair))"
            )
    if any(isinstance(plugin, CoPEPlugin) for plugin in plugins):
        raise ValueError("CoPEPlugin has no word on classes where the captioner is asked; leave AskCaptionerPlugin out")


def require_own_names(names: Mapping[int, str], experiences: Sequence[Any], strategy: Any) -> None:
    """Raise `ValueError` where a captioner that a new strategy asks has heard class names of another.

    **Arguments:**

    - names: that were heard, by class id.
    - experiences: about to be trained on.
    """
    classes = {target for experience in experiences for target in classes_of(experience)}
    if strategy.clock.train_exp_counter == 0 and not names.keys() <= classes:
        raise ValueError(
            "this AskCaptionerPlugin has heard the class names of another strategy; make a new one for each"
        )


def require_own_head(model: RoutedModel, memory: CaptionBuffer, part: Part, *, begun: bool) -> None:
    """Raise `ValueError` unless heads and captioned experiences go together, since captions name heads by number; a
    head whose experience was interrupted is dropped.

    **Arguments:**

    - begun: whether the plugin has seen the model before, so that what there is one too many is its own.
    """
    captioned, replay_size = memory.num_experiences, memory.replay_size
    if begun and part.is_first and model.num_heads == captioned + 1:
        model.discard_head()
    if not part.is_first and memory.num_parts == 0 and model.num_heads == captioned > 0:
        raise ValueError(
            "this part is of an experience that is captioned to its end, as its last part was trained on; "
            "train every part of an online stream once"
        )
    if model.num_heads != captioned + (not part.is_first):
        raise ValueError(
            f"model has {model.num_heads} heads, but captions of {captioned} experiences; "
            "train every experience with this plugin, from the first on, or begin with a new model"
        )
    if replay_size is not None and replay_size <= captioned:
        raise ValueError(
            f"replay_size is {replay_size}, too few for {captioned + 1} experiences; each needs at least one image"
        )
    if not part.marked and captioned == 0 and memory.num_parts == 0:
        _logger.warning(
            "this online stream hides where its experiences end (access_task_boundaries=False); CLTS has to know, "
            "and reads it all the same: compare it with strategies that may know it too"
        )


def require_first_part(experience: Any, part: Part) -> None:
    """Raise `ValueError` where an experience begins with a further part of itself, and no head begins with it:
    Avalanche adapts a model at the parts that are marked as first.

    **Arguments:**

    - part: where the experience stands, as captions see it.
    """
    if part.marked and part.is_first and not part_of(experience).is_first:
        raise ValueError(
            "the first part of this experience of an online stream was not trained on, and a head begins with it; "
            "train its parts from the first on, or split it with access_task_boundaries=False"
        )


def require_images_to_augment(model: RoutedModel, training: RouterTraining) -> None:
    """Raise `ValueError` if the router is to be taught on augmented images, and sees features."""
    if training.augment is not None and model.backbone is not None:
        raise ValueError(
            "router_training has an augment, but model has a backbone, behind which the router sees no images; "
            "leave augment out"
        )


def require_optimizer_like(optimizer: torch.optim.Optimizer, settings: dict[str, Any]) -> None:
    """Raise `TypeError` if no optimizer of the same class can be made of these settings."""
    try:
        inspect.signature(type(optimizer)).bind([], **settings)
    except TypeError as error:
        raise TypeError(
            f"optimizer is a {type(optimizer).__name__}, of which the router is to have another, which cannot be made "
            f"({error}); give one with router_training=RouterTraining(optimizer=lambda parameters: ...)"
        ) from error


def require_optimizer_of(make: OptimizerFactory, router: nn.Module) -> None:
    """Raise `TypeError` unless `make` makes an optimizer of parameters like the router's, where it has some."""
    own = list(router.parameters())
    if not own or any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in own):
        return
    copies = [nn.Parameter(parameter.detach().clone()) for parameter in own]
    wanted = "it must be a function that makes an optimizer of the router's parameters"
    try:
        made = make(iter(copies))
    except Exception as error:
        raise TypeError(f"router_training's optimizer fails ({type(error).__name__}: {error}); {wanted}") from error
    if not isinstance(made, torch.optim.Optimizer):
        raise TypeError(f"router_training's optimizer returns a {type(made).__name__}; {wanted}")


def require_augment_of(augment: Augment, dataset: AvalancheDataset, device: torch.device) -> None:
    """Raise `ValueError` unless `augment` makes as many images of a batch of them."""
    wanted = "it must make as many images of a batch of them, (n, channels, height, width)"
    with same_draws():
        batch = torch.cat([first_sample(dataset)] * 2).to(device)
        try:
            made = augment(batch)
        except Exception as error:
            raise ValueError(f"router_training's augment fails ({type(error).__name__}: {error}); {wanted}") from error
    if not isinstance(made, Tensor) or made.ndim != batch.ndim or len(made) != len(batch):
        shape = f" of {tuple(made.shape)}" if isinstance(made, Tensor) else ""
        raise ValueError(
            f"router_training's augment makes a {type(made).__name__}{shape} of {tuple(batch.shape)}; {wanted}"
        )


def require_batch_sizes(strategy: Any) -> None:
    """Raise `TypeError` or `ValueError` for numbers of samples that no batch can have."""
    for name in ("train_mb_size", "eval_mb_size"):
        setattr(strategy, name, as_whole(name, getattr(strategy, name)))  # loaders take no other kind


def require_trainable_batches(strategy: Any, arguments: dict[str, Any]) -> None:
    """Raise `ValueError` if the last batch of an epoch holds a single image, and the head cannot be trained on one.

    **Arguments:**

    - arguments: of `train`.
    """
    if single_last_sample(strategy, arguments) and not strategy.model.takes_single_samples(strategy.experience):
        raise ValueError(
            f"train_mb_size is {strategy.train_mb_size}, which leaves a last batch of one image, and the head's "
            "batch normalisation needs two; choose another, or drop_last=True in train()"
        )
