"""CLTS, Continual Learning via Text-Image Synergy (arXiv 2409.17806), as an Avalanche strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from avalanche.core import BasePlugin
from avalanche.models.dynamic_optimizers import update_optimizer
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.plugins.evaluation import default_evaluator
from avalanche.training.templates import SupervisedTemplate
from torch.nn import CrossEntropyLoss
from torch.optim import Optimizer

from .memory.selection import Selection
from .models import RoutedModel, Routing
from .pair.loading import Pair
from .plugins import CLTSPlugin, Keep, OptimizerFactory, RouterData, RouterTargets


class CLTS(SupervisedTemplate):
    """Keep text, not images; regenerate images from it to learn which experience an input belongs to.

    For each experience of the stream:

    1. **Learn.** A new Task Head is trained on the experience's real images, by Avalanche's own training loop: in
       training mode, `RoutedModel` *is* its newest head. Earlier heads are frozen.
    2. **Caption.** A captioner describes `captions_per_class` images of each class; the captions are all that is kept.
    3. **Create.** A text-to-image generator turns captions of all experiences back into `replay_size` images.
    4. **Continue.** The Task Router learns from these images which head an input belongs to. The images are then gone.

    At evaluation no task label is needed: the router picks the head, the head picks the class.

    Works in class-incremental, domain-incremental and task-incremental streams (there the task label picks the head).

    **Arguments:** those of `SupervisedTemplate`, and

    - model: the heads and their router.
    - pair: captioner and generator, from `load_pair`.
    - captions_per_class: captions kept of each class of each experience.
    - replay_size: images regenerated after each experience, in equal parts for every experience so far.
    - router_epochs: passes of the router over the regenerated images.
    - router_optimizer: makes the router's optimizer from its parameters. None: one like `optimizer`.
    - router_data: "synthetic" (the method) or "mixed"; see `CLTSPlugin`.
    - router_targets: "classes" or "experiences" (the paper's); see `CLTSPlugin`.
    - keep: "all" or "recognised" regenerated images; see `CLTSPlugin`.
    - selection: "random" or "diverse" images to caption; see `CaptionBuffer`.
    - recombine: whether captions lend each other their words; see `CaptionBuffer`.
    - routing: "soft" or "hard"; see `RoutedModel`. None: as the model says.
    - class_names: of all classes, by class id. None: taken from the data set where it has them.
    """

    optimized_param_id: dict[str, Any] | None

    def __init__(
        self,
        *,
        model: RoutedModel,
        optimizer: Optimizer,
        criterion: Any = CrossEntropyLoss(),
        pair: Pair,
        captions_per_class: int = 20,
        replay_size: int = 500,
        router_epochs: int = 10,
        router_optimizer: OptimizerFactory | None = None,
        router_data: RouterData = "synthetic",
        router_targets: RouterTargets = "classes",
        keep: Keep = "all",
        selection: Selection = "random",
        recombine: bool = True,
        routing: Routing | None = None,
        class_names: Sequence[str] | None = None,
        plugins: Sequence[BasePlugin] | None = None,
        evaluator: EvaluationPlugin | Callable[[], EvaluationPlugin] = default_evaluator,
        **kwargs: Any,
    ) -> None:
        if not isinstance(model, RoutedModel):
            raise TypeError(f"model is a {type(model).__name__}; wrap it: RoutedModel(head=..., router=...)")
        if routing is not None:
            model.set_routing(routing)
        clts = CLTSPlugin(
            pair=pair,
            captions_per_class=captions_per_class,
            replay_size=replay_size,
            router_epochs=router_epochs,
            router_optimizer=router_optimizer,
            router_data=router_data,
            router_targets=router_targets,
            keep=keep,
            selection=selection,
            recombine=recombine,
            class_names=class_names,
        )
        # First among the plugins, so that whatever others measure after an experience sees the router trained.
        super().__init__(
            model=model,
            optimizer=optimizer,
            criterion=criterion,
            plugins=[clts, *(plugins or [])],
            evaluator=evaluator,
            **kwargs,
        )

    def make_optimizer(self, reset_optimizer_state: bool = False, **kwargs: Any) -> None:
        """Give the optimizer the newest head in the place of the one before it, each parameter in the same group.

        Frozen heads leave the optimizer, and their moments with them. The router has an optimizer of its own.
        """
        known: dict[str, Any] | None = self.optimized_param_id
        # Named alike for every head, so that Avalanche takes the new head for the old one, changed.
        newest = dict(self.model.heads[-1].named_parameters())
        self.optimized_param_id = update_optimizer(
            self.optimizer, newest, known, reset_state=reset_optimizer_state, remove_params=True
        )
