"""When captions are written, images regenerated, and the router trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import ReplayPlugin

from ._support.checks import as_whole, require_kind
from .choices import RouterView
from .images.avalanche import (
    Part,
    belongs_to,
    evaluate_after_experience,
    experiences_in_training,
    is_in_training,
    task_labels_in_batch,
)
from .memory.buffer import CaptionBuffer
from .memory.origins import ClassNames
from .models import RoutedModel
from .pair.loading import Pair
from .pair_fit import PairFit
from .refusals import (
    require_augment_of,
    require_batch_sizes,
    require_first_part,
    require_images_to_augment,
    require_one_of_its_kind,
    require_optimizer_like,
    require_optimizer_of,
    require_own_head,
    require_routed_sequence,
    require_trainable_batches,
)
from .routers import (
    RouterTraining,
    TaskRouter,
    optimizer_like,
    require_finite,
    router_settings,
)
from .views import view_of

IMAGES_PER_CLASS = 100  # regenerated where no replay_size is given, as many as the recorded comparisons have
_BY_CLASSES = f"{IMAGES_PER_CLASS} images for each class of each experience"


class CaptionReplayPlugin(ReplayPlugin):
    """Replay with text in the place of a buffer of images, in any supervised strategy.

    ```python
    network = SimpleMLP(input_size=64)
    strategy = Naive(
        model=network,
        optimizer=SGD(network.parameters(), lr=0.1),
        criterion=CrossEntropyLoss(),
        train_mb_size=32,
        plugins=[CaptionReplayPlugin(pair=pair, mem_size=100)],
    )
    strategy.train(benchmark.train_stream)
    ```

    **Arguments:**

    - pair: writes the captions and turns them back into images.
    - mem_size: captions kept at most, in equal parts for all classes seen.
    - class_names: of all classes, by class id. None: taken from the data set where it has them.
    - replay_size: images regenerated for each experience. None: 100 for each class of each experience.
    - recombine: whether captions lend each other their words where there are more images than captions; see
        `CaptionBuffer`.
    - batch_size, batch_size_mem, task_balanced_dataloader: as in Avalanche's `ReplayPlugin`.
    """

    storage_policy: CaptionBuffer

    def __init__(
        self,
        *,
        pair: Pair,
        mem_size: int = 200,
        class_names: ClassNames | None = None,
        replay_size: int | None = None,
        recombine: bool = True,
        batch_size: int | None = None,
        batch_size_mem: int | None = None,
        task_balanced_dataloader: bool = False,
    ) -> None:
        mem_size = as_whole("mem_size", mem_size)
        super().__init__(
            mem_size=mem_size,
            batch_size=as_whole("batch_size", batch_size, none="that of the strategy"),
            batch_size_mem=as_whole("batch_size_mem", batch_size_mem, none="batch_size"),
            task_balanced_dataloader=task_balanced_dataloader,
            storage_policy=CaptionBuffer(
                pair=pair,
                max_size=mem_size,
                replay_size=as_whole("replay_size", replay_size, none=_BY_CLASSES),
                images_per_class=IMAGES_PER_CLASS,
                class_names=class_names,
                recombine=recombine,
            ),
        )

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """What was not trained to its end is not captioned twice."""
        self.storage_policy.training_begins()

    def before_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse, before anything is trained, an experience that cannot be captioned."""
        self.storage_policy.begin(strategy.experience)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Caption what has just been learnt."""
        for experience in experiences_in_training(strategy):
            self.storage_policy.post_adapt(strategy, experience)

    def after_training(self, strategy: Any, **kwargs: Any) -> None:
        """What was captioned is learnt."""
        self.storage_policy.training_ends()


class CLTSPlugin(SupervisedPlugin):
    """After each experience: caption some of its images, regenerate images of all experiences, train the router.

    For any supervised strategy whose model is a `RoutedModel`.

    ```python
    clts = CLTSPlugin(pair=pair, captions_per_class=10, replay_size=200)
    strategy = Naive(
        model=model,
        optimizer=Adam(model.parameters()),
        criterion=CrossEntropyLoss(),
        train_mb_size=32,
        plugins=[clts],
    )
    strategy.train(benchmark.train_stream)
    print(clts.storage_policy.memory.captions[0].text)  # such as: a large thin handwritten seven
    ```

    **Arguments:**

    - pair: writes the captions and turns them back into images.
    - captions_per_class: captions kept of each class of each experience.
    - replay_size: images regenerated after each experience, in equal parts for every experience so far. None: 100 for
        each class of each experience.
    - router_training: how the router is taught. None: `RouterTraining()`.
    - router_epochs: short for `RouterTraining(epochs=...)`. None: as `router_training` says.
    - router_view: what the router is shown: "input", or "autoencoded", the input after the generator's autoencoder, by
        which real images lose what generated ones never had. None: as the pair suggests, or else the input.
    - recombine: whether captions lend each other their words where there are more images than captions; see
        `CaptionBuffer`.
    - class_names: of all classes, by class id. None: taken from the data sets where they have them.
    """

    def __init__(
        self,
        *,
        pair: Pair,
        captions_per_class: int = 20,
        replay_size: int | None = None,
        router_training: RouterTraining | None = None,
        router_epochs: int | None = None,
        router_view: RouterView | None = None,
        recombine: bool = True,
        class_names: ClassNames | None = None,
    ) -> None:
        super().__init__()
        self.storage_policy = CaptionBuffer(
            pair=pair,
            captions_per_class=as_whole("captions_per_class", captions_per_class),
            replay_size=as_whole("replay_size", replay_size, none=_BY_CLASSES),
            images_per_class=IMAGES_PER_CLASS,
            recombine=recombine,
            class_names=class_names,
        )
        router_epochs = as_whole("router_epochs", router_epochs, none="as router_training says")
        training = RouterTraining() if router_training is None else router_training
        require_kind("router_training", training, RouterTraining, "RouterTraining(epochs=...)")
        self.router_training = training if router_epochs is None else replace(training, epochs=router_epochs)
        self.router_view = view_of(router_view, pair)
        self._suggested = router_view is None
        self.router_settings: dict[str, Any] | None = None  # of an optimizer like the strategy's, as it began
        self.router_seconds = 0.0
        self.pair_fit = PairFit()  # of the newest experience
        self._part = Part(None)
        self._experience: Any = None  # whose head is in training
        self._unfinished = False
        self._begun = False  # whether heads are this plugin's

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """The method: caption, regenerate, teach the router (and, after `train`, forget)."""
        self._experience = None
        evaluate_after_experience(strategy)
        self.storage_policy.post_adapt(strategy, strategy.experience)
        self._unfinished = True
        if self._part.is_last and strategy.model.is_ambiguous:
            images, targets = self.router_training.lesson(self.storage_policy, strategy.experience.dataset)
            self.router_seconds += self.router_training.fit(
                strategy.model.router,
                images,
                targets,
                known=strategy.model.routing_targets,
                features=strategy.model.features,
                optimizer=optimizer_like(strategy.optimizer, self.router_settings or {}),
                batch_size=strategy.train_mb_size,
                device=strategy.device,
                num_workers=kwargs.get("num_workers", 0),
                title=f"the router after experience {self.storage_policy.num_experiences - 1}",
            )
        self._unfinished = False
        if self._part.is_last:
            experience = strategy.experience
            self.pair_fit = PairFit.of(
                strategy.model, self.storage_policy, experience, strategy.device, batch_size=strategy.eval_mb_size
            )
            self.pair_fit.tell(self.storage_policy.num_experiences - 1)

    def after_training(self, strategy: Any, **kwargs: Any) -> None:
        """Forget the regenerated images: between experiences, only text is kept."""
        self.storage_policy.training_ends()
        self.storage_policy.release()
        if self.router_view is not None:
            self.router_view.forget()

    # Before anything is trained: what cannot be is refused.

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Look at the strategy; of its optimizer, the settings that it begins with."""
        require_routed_sequence(strategy)
        require_one_of_its_kind(self, strategy)
        require_images_to_augment(strategy.model, self.router_training)
        require_batch_sizes(strategy)
        self.storage_policy.training_begins()
        if self.router_settings is None:
            self.router_settings = router_settings(strategy.optimizer, strategy.model.router)
        if self.router_training.optimizer is None:
            require_optimizer_like(strategy.optimizer, self.router_settings)
        else:
            require_optimizer_of(self.router_training.optimizer, strategy.model.router)

    def before_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """Look at the experience: can it be captioned, and has it a head of its own?"""
        if self._unfinished:  # captions of an experience are there, but its router is not
            self.storage_policy.take_back()
            self._unfinished = False
        require_first_part(strategy.experience, self.storage_policy.part(strategy.experience))
        self._part = self.storage_policy.begin(strategy.experience)
        require_own_head(strategy.model, self.storage_policy, self._part, begun=self._begun)
        self._begun = True
        require_trainable_batches(strategy, kwargs)
        self._look(strategy.model, strategy.experience.dataset)
        if self.router_training.augment is not None:
            require_augment_of(self.router_training.augment, strategy.experience.dataset, strategy.device)

    def before_eval(self, strategy: Any, **kwargs: Any) -> None:
        """What was loaded may have been taught on a view, and not been told since which."""
        model = strategy.model
        if self.router_view is not None and isinstance(model, RoutedModel) and isinstance(model.router, TaskRouter):
            model.router.have_taught_view(self.router_view)

    def _look(self, model: RoutedModel, dataset: Any) -> None:
        """Begin with what the router is shown; what the pair but suggests gives way where it cannot be."""
        if self.router_view is None:
            return
        router: TaskRouter = model.router  # type: ignore[assignment]
        try:
            if model.backbone is not None:
                raise ValueError(
                    "router_view is 'autoencoded', but model has a backbone, behind which the router sees no images; "
                    "leave router_view out"
                )
            if self._suggested and router.view not in (None, self.router_view):
                raise ValueError("the router has a view of its own")
            self.router_view.look_at(dataset)
        except ValueError:
            if not self._suggested:
                raise
            if router.view in (None, self.router_view):
                router.have_view(None)
            self.router_view = None
        else:
            router.have_view(self.router_view)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Stop before a head learns from a loss that is no number."""
        clock = strategy.clock
        where = f"epoch {clock.train_exp_epochs}, iteration {clock.train_exp_iterations}"
        require_finite(strategy.loss, f"the head of experience {self.storage_policy.num_experiences}", where)

    # While a head trains, it alone is asked about inputs of its own experience, which the router does not know yet:
    # whoever watches a metric then sees what the head learns.

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Should training break off here, it is over."""
        self._experience = None

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Whoever evaluates now does so while the newest head is in training."""
        self._experience = strategy.experience

    def before_eval_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Is this what the head in training learns?"""
        model, training = strategy.model, self._experience if is_in_training(strategy) else None
        own = training is not None and belongs_to(strategy.experience, training, model.records[-1].classes)
        model.asked_alone = model.num_heads - 1 if own else None

    def after_eval(self, strategy: Any, **kwargs: Any) -> None:
        """Whatever comes next is asked of all heads."""
        strategy.model.asked_alone = None

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Hand the model the task labels of the batch, which not every experience lets Avalanche hand it."""
        given = task_labels_in_batch(strategy)
        mistaken = None if given is None or given is strategy.mb_task_id else strategy.mb_task_id
        strategy.model.given_labels, strategy.model.mistaken_labels = given, mistaken

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """The next batch has its own."""
        strategy.model.given_labels = strategy.model.mistaken_labels = None

    before_eval_forward, after_eval_forward = before_forward, after_forward

    def state_dict(self) -> dict[str, Any]:
        """What it remembers beside the captions."""
        view = self.router_view
        return {
            "router_seconds": self.router_seconds,
            "router_settings": self.router_settings,
            "normalisation": None if view is None else view.state_dict_of_normalisation(),
            "view_gave_way": self._suggested and view is None,
            "begun": self._begun,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.router_seconds, self.router_settings = state["router_seconds"], state["router_settings"]
        self._begun = state["begun"]
        if state["view_gave_way"]:
            self.router_view = None
        if self.router_view is not None:
            self.router_view.load_normalisation(state["normalisation"])
