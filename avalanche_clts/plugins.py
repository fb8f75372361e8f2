"""When captions are written, images regenerated, and the router trained."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset
from tqdm import tqdm

from ._support.checks import require_one_of, require_whole
from .memory.buffer import CaptionBuffer
from .memory.selection import Selection
from .models import RoutedModel
from .pair.loading import Pair
from .pair.precision import fast_training

RouterData = Literal["synthetic", "mixed"]
RouterTargets = Literal["classes", "experiences"]
Keep = Literal["all", "recognised"]
# Of the router's targets: some generated images do not show what their caption says.
_LABEL_SMOOTHING = 0.1
OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


class Place(NamedTuple):
    """Where an image belongs: to a head, and there to a class."""

    head: int
    target: int


class CaptionReplayPlugin(ReplayPlugin):
    """Replay with text in the place of a buffer of images, in any supervised strategy.

    **Arguments:**

    - pair: writes the captions and turns them back into images.
    - mem_size: captions kept at most, in equal parts for all classes seen.
    - class_names: of all classes, by class id. None: taken from the data set where it has them.
    - replay_size: images regenerated for each experience. None: one for each caption.
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
        class_names: Sequence[str] | None = None,
        replay_size: int | None = None,
        recombine: bool = True,
        batch_size: int | None = None,
        batch_size_mem: int | None = None,
        task_balanced_dataloader: bool = False,
    ) -> None:
        require_whole("mem_size", mem_size)
        require_whole("batch_size", batch_size, none="that of the strategy")
        require_whole("batch_size_mem", batch_size_mem, none="batch_size")
        super().__init__(
            mem_size=mem_size,
            batch_size=batch_size,
            batch_size_mem=batch_size_mem,
            task_balanced_dataloader=task_balanced_dataloader,
            storage_policy=CaptionBuffer(
                pair=pair, max_size=mem_size, class_names=class_names, replay_size=replay_size, recombine=recombine
            ),
        )

    def before_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse, before anything is trained, an experience that cannot be captioned."""
        self.storage_policy.prepare(strategy.experience)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Caption the experience that has just been learnt."""
        self.storage_policy.post_adapt(strategy, strategy.experience)


class CLTSPlugin(SupervisedPlugin):
    """After each experience: caption some of its images, regenerate images of all experiences, train the router.

    For any supervised strategy whose model is a `RoutedModel`.

    **Arguments:**

    - pair: writes the captions and turns them back into images.
    - captions_per_class: captions kept of each class of each experience.
    - replay_size: images regenerated after each experience, in equal parts for every experience so far.
    - router_epochs: passes of the router over them.
    - router_optimizer: makes the router's optimizer from its parameters. None: one like the strategy's, with the
        settings that it was built with.
    - router_data: "synthetic", the method: the router sees regenerated images of all experiences, the current one
        included. "mixed", for comparison: real images of the current experience beside regenerated ones of the past.
    - router_targets: what the router is taught to tell apart. "classes" of each experience, whose probabilities then
        add up to the experience's: an experience of unlike classes is easier to learn in parts. "experiences": the
        paper's.
    - keep: "all" regenerated images, or those "recognised": where the frozen head of the caption's experience takes
        the image for another class than the caption's, the router does not see it. `num_discarded` counts them.
    - selection: of the images to caption; see `CaptionBuffer`.
    - recombine: whether captions lend each other their words where there are more images than captions; see
        `CaptionBuffer`.
    - class_names: of all classes, by class id. None: taken from the data set where it has them.
    """

    def __init__(
        self,
        *,
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
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        require_one_of("router_data", router_data, RouterData)
        require_one_of("router_targets", router_targets, RouterTargets)
        require_one_of("keep", keep, Keep)
        require_whole("captions_per_class", captions_per_class)
        require_whole("replay_size", replay_size)
        require_whole("router_epochs", router_epochs)
        if router_optimizer is not None and not callable(router_optimizer):
            raise TypeError(
                f"router_optimizer is a {type(router_optimizer).__name__}; it must be a function that makes an "
                "optimizer of the router's parameters, such as lambda parameters: Adam(parameters, lr=1e-3)"
            )
        self.storage_policy = CaptionBuffer(
            pair=pair,
            captions_per_class=captions_per_class,
            replay_size=replay_size,
            selection=selection,
            recombine=recombine,
            class_names=class_names,
        )
        self.keep = keep
        self.num_discarded = 0
        self.router_epochs = router_epochs
        self.router_optimizer = router_optimizer
        self.router_data = router_data
        self.router_targets = router_targets
        self.router_seconds = 0.0
        self._unfinished = False

    def before_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse, before anything is trained, a model without a router or an experience that cannot be captioned."""
        if not isinstance(strategy.model, RoutedModel):
            raise TypeError(f"model is a {type(strategy.model).__name__}; CLTS needs a RoutedModel")
        self._require_a_head_per_experience(strategy.model)
        self.storage_policy.prepare(strategy.experience)

    def _require_a_head_per_experience(self, model: RoutedModel) -> None:
        """Captions name heads by number, so heads and captioned experiences must go together."""
        if self._unfinished:  # the captions of an experience are there, but its router is not
            self.storage_policy.take_back()
            self._unfinished = False
        captioned, replay_size = self.storage_policy.num_experiences, self.storage_policy.replay_size
        if model.num_heads == captioned + 1:
            model.discard_head()  # its experience was interrupted
        if model.num_heads != captioned:
            raise ValueError(
                f"model has {model.num_heads} heads, but captions of {captioned} experiences; "
                "train every experience with this plugin, from the first on"
            )
        if replay_size is not None and replay_size <= captioned:
            raise ValueError(
                f"replay_size is {replay_size}, too few for {captioned + 1} experiences; each needs at least one image"
            )

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Stop before a head learns from a loss that is no number."""
        clock = strategy.clock
        where = f"epoch {clock.train_exp_epochs}, iteration {clock.train_exp_iterations}"
        _require_finite(strategy.loss, f"the head of experience {self.storage_policy.num_experiences}", where)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Caption, regenerate, train the router."""
        self.storage_policy.post_adapt(strategy, strategy.experience)
        self._unfinished = True
        if strategy.model.needs_router:
            images, places = self._routing_data(strategy.experience.dataset, strategy.model, strategy.device)
            make_optimizer = self.router_optimizer or _optimizer_like(strategy.optimizer)
            with strategy.model.router.unchanged_on_error():
                self._train_router(
                    strategy.model, make_optimizer, images, places, strategy.train_mb_size, strategy.device
                )
        self._unfinished = False

    def after_training(self, strategy: Any, **kwargs: Any) -> None:
        """Forget the regenerated images: between experiences, only text is kept."""
        self.storage_policy.release()

    def _routing_data(
        self, current: AvalancheDataset, model: RoutedModel, device: torch.device
    ) -> tuple[Dataset[Any], list[Place]]:
        """What the router learns from, and where each sample belongs."""
        images = self.storage_policy.buffer.train()
        places = [Place(prompt.caption.experience, prompt.caption.target) for prompt in self.storage_policy.prompts]
        if self.keep == "recognised":
            kept = _recognised(model, images.eval(), places, device)
            self.num_discarded += len(images) - len(kept)
            images, places = images.subset(kept), [places[i] for i in kept]
        if self.router_data == "synthetic":
            return images, places
        newest = self.storage_policy.num_experiences - 1
        past = [i for i, place in enumerate(places) if place.head != newest]
        real = torch.randperm(len(current))[: len(places) - len(past)].tolist()
        mixed: Dataset[Any] = ConcatDataset([images.subset(past), current.train().subset(real)])
        return mixed, [places[i] for i in past] + [Place(newest, int(current.targets[i])) for i in real]

    def _train_router(
        self,
        model: RoutedModel,
        make_optimizer: OptimizerFactory,
        images: Dataset[Any],
        places: list[Place],
        batch_size: int,
        device: torch.device,
    ) -> None:
        start = time.perf_counter()
        router = model.router
        if self.router_targets == "classes":
            units = [Place(t, target) for t, record in enumerate(model.records) for target in record.classes]
            targets = [units.index(place) for place in places]
            router.grow([unit.head for unit in units], model.num_router_features)
        else:
            targets = [place.head for place in places]
            router.grow(range(model.num_heads), model.num_router_features)
        router.to(device).requires_grad_(True).train()
        optimizer = make_optimizer(router.parameters())
        loader: DataLoader[Any] = DataLoader(
            _Routed(images, targets), batch_size=batch_size, shuffle=True, drop_last=len(targets) > batch_size
        )
        # The learning rate falls to nothing: with few images, the last steps at full rate are mostly noise.
        steps = self.router_epochs * len(loader)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)
        criterion = nn.CrossEntropyLoss(label_smoothing=_LABEL_SMOOTHING)
        after = f"the router after experience {self.storage_policy.num_experiences - 1}"
        example = model.features(torch.stack([images[0][0]] * 2).to(device))
        with fast_training(router, router.unit_logits, example) as unit_logits:
            for epoch in tqdm(range(self.router_epochs), desc="training the router", leave=False, disable=None):
                for step, (x, target) in enumerate(loader):
                    loss = criterion(unit_logits(model.features(x.to(device))), target.to(device))
                    _require_finite(loss, after, f"epoch {epoch}, iteration {step}")
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
        router.zero_grad()
        router.requires_grad_(False).eval()
        self.router_seconds += time.perf_counter() - start


@torch.inference_mode()
def _recognised(
    model: RoutedModel, images: AvalancheDataset, places: Sequence[Place], device: torch.device
) -> list[int]:
    """Indices of the images that the head of their caption's experience takes for their caption's class."""
    model.eval()
    kept: list[int] = []
    own = nn.functional.one_hot(torch.tensor([place.head for place in places]), model.num_heads).float()
    said = torch.tensor([place.target for place in places])
    for batch in torch.arange(len(images)).split(256):
        x = torch.stack([images[int(i)][0] for i in batch]).to(device)
        guess = model.mixture(model.features(x), own[batch].to(device)).argmax(1).cpu()
        kept += batch[guess == said[batch]].tolist()
    # An experience whose images are all doubted keeps them: the router must know of every head.
    lost = {place.head for place in places} - {places[i].head for i in kept}
    return sorted(kept + [i for i, place in enumerate(places) if place.head in lost])


def _require_finite(loss: Tensor, of: str, where: str) -> None:
    if not bool(torch.isfinite(loss)):
        raise FloatingPointError(
            f"the loss of {of} is {loss.item()} at {where}; lower the learning rate, "
            "or look for values that are not finite among the images"
        )


def _optimizer_like(optimizer: torch.optim.Optimizer) -> OptimizerFactory:
    accepted = inspect.signature(type(optimizer)).parameters
    settings = {name: value for name, value in optimizer.defaults.items() if name in accepted}
    return lambda parameters: type(optimizer)(parameters, **settings)


class _Routed(Dataset[tuple[Tensor, int]]):
    """Images with the router's targets, in the place of their class."""

    def __init__(self, images: Any, targets: list[int]) -> None:
        self.images = images
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index][0], self.targets[index]
