"""CLTS, Continual Learning via Text-Image Synergy (arXiv 2409.17806), as an Avalanche strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from avalanche.core import BasePlugin
from avalanche.models.dynamic_optimizers import update_optimizer
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.plugins.evaluation import default_evaluator
from avalanche.training.templates import SupervisedTemplate
from torch.nn import CrossEntropyLoss
from torch.optim import Optimizer

from .choices import RouterView, Routing
from .memory.origins import ClassNames
from .models import RoutedModel
from .pair.loading import Pair
from .plugins import CLTSPlugin
from .routers import RouterTraining


class CLTS(SupervisedTemplate):
    """Keep text, not images; regenerate images from it to learn which experience an input belongs to.

    For each experience of the stream:

    1. **Learn.** A new Task Head is trained on the experience's real images, by Avalanche's own training loop: in
       training mode, `RoutedModel` *is* its newest head. Earlier heads are frozen.
    2. **Caption.** A captioner describes `captions_per_class` images of each class; the captions are all that is kept.
    3. **Create.** A text-to-image generator turns captions of all experiences back into `replay_size` images.
    4. **Continue.** The Task Router learns from these images which head an input belongs to. The images are then gone.

    At evaluation no task label is needed: the router picks the head, the head picks the class.

    Works in class-incremental, domain-incremental, online and task-incremental streams (there the task label picks the
    head). The parts into which an online stream splits an experience share a head.

    ```python
    model = RoutedModel(
        head=SimpleMLP(num_classes=10, input_size=64), router=SimpleMLP(input_size=64)
    )
    strategy = CLTS(
        model=model,
        optimizer=Adam(model.parameters(), lr=1e-3),
        pair=pair,
        captions_per_class=20,
        replay_size=200,
        router_training=RouterTraining(epochs=20),
        train_mb_size=32,
        train_epochs=5,
        eval_mb_size=128,
    )
    for experience in benchmark.train_stream:
        strategy.train(experience)
        strategy.eval(benchmark.test_stream)
    ```

    **Arguments:**

    - model: the heads and their router.
    - pair: captioner and generator, from `load_pair`.
    - captions_per_class: captions kept of each class of each experience.
    - replay_size: images regenerated after each experience, in equal parts for every experience so far. None: 100 for
        each class of each experience.
    - router_training: how the router is taught: epochs, optimizer, targets and more. None: `RouterTraining()`.
    - router_epochs: short for `RouterTraining(epochs=...)`. None: as `router_training` says.
    - router_view: what the router is shown, "input" or "autoencoded"; see `CLTSPlugin`. None: as the pair suggests.
    - recombine: whether captions lend each other their words; see `CaptionBuffer`. False: as in the paper.
    - routing: "soft" or "hard", the paper's; see `RoutedModel`. None: as the model says.
    - class_names: of all classes, by class id. None: taken from the data sets where they have them.
    - optimizer, criterion, train_mb_size, train_epochs, eval_mb_size, device, plugins, evaluator, eval_every,
        peval_mode: as in Avalanche's `SupervisedTemplate`.
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
        replay_size: int | None = None,
        router_training: RouterTraining | None = None,
        router_epochs: int | None = None,
        router_view: RouterView | None = None,
        recombine: bool = True,
        routing: Routing | None = None,
        class_names: ClassNames | None = None,
        train_mb_size: int = 1,
        train_epochs: int = 1,
        eval_mb_size: int | None = 1,
        device: str | torch.device = "cpu",
        plugins: Sequence[BasePlugin] | None = None,
        evaluator: EvaluationPlugin | Callable[[], EvaluationPlugin] = default_evaluator,
        eval_every: int = -1,
        peval_mode: Literal["epoch", "iteration"] = "epoch",
    ) -> None:
        if not isinstance(model, RoutedModel):
            raise TypeError(f"model is a {type(model).__name__}; wrap it: RoutedModel(head=..., router=...)")
        if routing is not None:
            model.set_routing(routing)
        clts = CLTSPlugin(
            pair=pair,
            captions_per_class=captions_per_class,
            replay_size=replay_size,
            router_training=router_training,
            router_epochs=router_epochs,
            router_view=router_view,
            recombine=recombine,
            class_names=class_names,
        )
        # First among the plugins, so that whatever others measure after an experience sees the router trained.
        super().__init__(
            model=model,
            optimizer=optimizer,
            criterion=criterion,
            train_mb_size=train_mb_size,
            train_epochs=train_epochs,
            eval_mb_size=eval_mb_size,
            device=device,
            plugins=[clts, *(plugins or [])],
            evaluator=evaluator,
            eval_every=eval_every,
            peval_mode=peval_mode,
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
