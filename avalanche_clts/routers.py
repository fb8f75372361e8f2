"""What picks a head: the interface, the Task Router, and how it is taught."""

from __future__ import annotations

import copy
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.models import DynamicModule
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from ._support.checks import require_flag, require_kind, require_one_of, require_whole
from ._support.console import bar
from ._support.extra_state import from_tensor, to_tensor
from .choices import RouterData, RouterTargets
from .images.avalanche import class_ids
from .images.normalisation import Normalisation
from .memory.buffer import CaptionBuffer
from .pair.precision import fast_training
from .views import Autoencoded

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Augment = Callable[[Tensor], Tensor]
Precision = Literal["auto", "float32"]


class RoutingTarget(NamedTuple):
    """Where an image belongs: to a head, and there to a class."""

    head: int
    target: int


class Router(nn.Module, ABC):
    """Anything that picks heads: all that `RoutedModel` needs of it.

    ```python
    class NearestMean(Router):  # picks the head whose experience looks, on average, most like the input
        def __init__(self):
            super().__init__()
            self.means = []  # of each experience's images; whoever trains the heads adds one

        @property
        def num_heads(self):
            return len(self.means)

        def log_probabilities(self, features):
            distances = [(features - mean).flatten(1).norm(dim=1) for mean in self.means]
            return torch.stack(distances, dim=1).neg().log_softmax(1)

    model = RoutedModel(head=SimpleMLP(input_size=64), router=NearestMean())
    ```
    """

    @property
    @abstractmethod
    def num_heads(self) -> int:
        """How many heads it tells apart: the first ones. The model gives later ones a prior."""

    @abstractmethod
    def log_probabilities(self, features: Tensor) -> Tensor:
        """log p(head), `(n, num_heads)`, of what the heads see as well, `(n, ...)`."""

    def measure(self, features: Tensor) -> None:
        """Look at one input before it is trained on; raises what keeps the router from taking it."""


class TaskRouter(Router):
    """Which experience does an input belong to? Any network, with an output layer that grows with the experiences.

    An experience has one unit or several, such as one for each of its classes; its probability is the sum of theirs.

    ```python
    router = TaskRouter(SimpleMLP(input_size=64))
    router.grow([0, 0, 1, 1], num_features=10)  # two experiences, a unit for each of their classes
    router.log_probabilities(torch.rand(5, 1, 8, 8))  # (5, 2)
    ```

    **Arguments:**

    - backbone: maps inputs to features, or to logits that then serve as features; anything past the first dimension
        is flattened. `nn.Identity()` where a shared backbone has done the work.
    - view: what is done to inputs first, such as `Autoencoded`. None: nothing.
    """

    def __init__(self, backbone: nn.Module, *, view: nn.Module | None = None) -> None:
        super().__init__()
        require_kind("backbone", backbone, nn.Module, "a torch.nn.Module")
        growing = [type(part).__name__ for part in backbone.modules() if isinstance(part, DynamicModule)]
        if growing:
            raise ValueError(
                f"router holds {growing[0]}, which grows as a head does; give a network without it: the router's "
                "output grows by itself"
            )
        self.backbone = backbone
        self.view = view
        self.output: nn.Linear | None = None
        self.experience_of_unit: list[int] = []
        self.num_features = 0  # known once an input was measured
        self._like = torch.empty(0)
        self._taught_on: dict[str, Any] | None = None  # what was loaded of an `Autoencoded` that it does not have yet

    @property
    def num_heads(self) -> int:
        """How many heads it tells apart."""
        return len(set(self.experience_of_unit))

    def have_view(self, view: nn.Module | None) -> None:
        """Be taught on this view from now on."""
        self.view, self._taught_on = view, None

    def have_taught_view(self, view: Autoencoded) -> None:
        """Have this view, if it was taught on one like it before it was saved."""
        if self._taught_on is not None:
            view.load_normalisation(self._taught_on)
            self.have_view(view)

    def measure(self, features: Tensor) -> None:
        """Learn how wide the backbone's output is."""
        training = self.training
        with torch.no_grad():
            own = self.eval().features(features)
        self.num_features = own.shape[1]
        self.be_like(own)
        self.train(training)

    def be_like(self, x: Tensor) -> None:
        """Have weights of this tensor's kind, and where it is, unless the backbone has some that say it."""
        self._like = x.new_empty(0)

    def grow(self, experience_of_unit: Sequence[int], num_features: int | None = None) -> None:
        """Add units to the output, keeping those there are.

        **Arguments:**

        - experience_of_unit: of all units, those there are coming first; experiences are numbered from 0, as heads are.
        - num_features: of the backbone's flattened output. None: as measured.

        Raises `ValueError` if the units there are belong to other heads.
        """
        known = len(self.experience_of_unit)
        if list(experience_of_unit[:known]) != self.experience_of_unit:
            raise ValueError(
                f"experience_of_unit begins with {list(experience_of_unit[:known])}, but the router's units belong to "
                f"{self.experience_of_unit}; a trained router keeps the targets of its RouterTraining"
            )
        if known == len(experience_of_unit):
            return
        old = self.output
        self.num_features = num_features or self.num_features
        self.experience_of_unit = list(experience_of_unit)
        like = next(self.parameters(), self._like)
        output = nn.Linear(self.num_features, len(experience_of_unit), device=like.device, dtype=like.dtype)
        self.output = output.requires_grad_(False)
        if old is not None:
            with torch.no_grad():
                self.output.weight[: old.out_features] = old.weight
                self.output.bias[: old.out_features] = old.bias

    @contextmanager
    def unchanged_on_error(self) -> Iterator[None]:
        """Within this context an error leaves the router as it was before."""
        backbone = {name: value.clone() for name, value in self.backbone.state_dict().items()}
        output, experience_of_unit = copy.deepcopy(self.output), self.experience_of_unit
        try:
            yield
        except BaseException:
            self.backbone.load_state_dict(backbone)
            self.output, self.experience_of_unit = output, experience_of_unit
            self.zero_grad()
            self.requires_grad_(False).eval()
            raise

    def features(self, x: Tensor, augment: Augment | None = None) -> Tensor:
        """`(n, ...)` to `(n, num_features)`; augmented is what the network sees, after its view."""
        if self._taught_on is not None and self.view is None:
            raise RuntimeError(
                "the router was taught on images after the generator's autoencoder, which is not saved with it; give "
                "it to a CLTS with that pair and router_view='autoencoded', or build it with view=Autoencoded(pair)"
            )
        x = x if self.view is None else self.view(x)
        features: Tensor = self.backbone(x if augment is None else augment(x))
        return features.flatten(1)

    def unit_logits(self, x: Tensor, augment: Augment | None = None) -> Tensor:
        """Logits over units, `(n, number of units)`."""
        if self.output is None:
            raise RuntimeError("the router knows no experience yet; train the strategy on one first")
        logits: Tensor = self.output(self.features(x, augment))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits over heads, `(n, num_heads)`."""
        logits = self.unit_logits(x)
        owners = torch.tensor(self.experience_of_unit, device=logits.device)
        return torch.stack([logits[:, owners == t].logsumexp(1) for t in range(self.num_heads)], dim=1)

    def log_probabilities(self, features: Tensor) -> Tensor:
        """log p(head), `(n, num_heads)`."""
        logits: Tensor = self(features)
        return logits.log_softmax(1)

    def get_extra_state(self) -> Tensor:
        """The units, as a tensor, so that a fresh router can load a trained one's state."""
        state: dict[str, Any] = {"experience_of_unit": self.experience_of_unit, "num_features": self.num_features}
        if isinstance(self.view, Autoencoded):
            state["view"] = self.view.state_dict_of_normalisation() or Normalisation().state_dict()
        elif self._taught_on is not None:
            state["view"] = self._taught_on
        return to_tensor(state)

    def set_extra_state(self, state: Tensor) -> None:
        """Grow to the units that the state was saved with."""
        saved = from_tensor(state)
        if saved["experience_of_unit"] != self.experience_of_unit:
            self.output, self.experience_of_unit = None, []
            self.grow(saved["experience_of_unit"], saved["num_features"])
        self.num_features = saved["num_features"]
        self._taught_on = saved.get("view")
        if isinstance(self.view, Autoencoded):
            self.have_taught_view(self.view)


@dataclass(frozen=True)
class RouterTraining:
    """How the Task Router is taught, after every experience, on regenerated images.

    What goes beyond the paper can be turned off: `RouterTraining(targets="experiences", label_smoothing=0.0,
    falling_rate=False)` is the paper's.

    ```python
    training = RouterTraining(epochs=20, optimizer=lambda parameters: SGD(parameters, lr=0.1))
    strategy = CLTS(model=model, optimizer=Adam(model.parameters()), pair=pair, router_training=training)
    ```

    **Arguments:**

    - epochs: passes over the images.
    - optimizer: makes the router's optimizer from its parameters. None: one like the strategy's, with the settings of
        the parameter group that holds the router's parameters.
    - data: "synthetic", the method: the router sees regenerated images of all experiences, the current one included.
        "mixed", for comparison: real images of the current experience beside regenerated ones of the past.
    - targets: what the router is taught to tell apart. "classes" of each experience, whose probabilities then add up to
        the experience's: an experience of unlike classes is easier to learn in parts. "experiences": the paper's.
    - label_smoothing: of the targets, 0 to 1 (Szegedy et al., CVPR 2016): some generated images do not show what their
        caption says. 0: none.
    - falling_rate: whether the learning rate falls to nothing, step by step: with few images, the last steps at full
        rate are mostly noise.
    - augment: what is done to a batch of images, `(n, channels, height, width)`, before the network sees it, such as
        torchvision's `v2.RandomHorizontalFlip()`. None: nothing, beyond what the stream's own transforms do.
    - precision: "auto", bfloat16 where the device is faster in it, see `fast_training`; or "float32".
    """

    epochs: int = 10
    optimizer: OptimizerFactory | None = None
    data: RouterData = "synthetic"
    targets: RouterTargets = "classes"
    label_smoothing: float = 0.1
    falling_rate: bool = True
    augment: Augment | None = None
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        require_whole("epochs", self.epochs)
        require_one_of("data", self.data, RouterData)
        require_one_of("targets", self.targets, RouterTargets)
        require_one_of("precision", self.precision, Precision)
        require_flag("falling_rate", self.falling_rate)
        if not isinstance(self.label_smoothing, (int, float)) or not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing!r}; it must be a number from 0 to below 1")
        if self.optimizer is not None and not callable(self.optimizer):
            raise TypeError(
                f"optimizer is a {type(self.optimizer).__name__}; it must be a function that makes an "
                "optimizer of the router's parameters, such as lambda parameters: Adam(parameters, lr=1e-3)"
            )

        if self.augment is not None and not callable(self.augment):
            raise TypeError(
                f"augment is a {type(self.augment).__name__}; it must be a function of a batch of images, such as "
                "torchvision's v2.RandomHorizontalFlip()"
            )

    def lesson(self, memory: CaptionBuffer, current: AvalancheDataset) -> tuple[Dataset[Any], list[RoutingTarget]]:
        """What the router learns from, and where each sample belongs.

        **Arguments:**

        - memory: whose images are regenerated.
        - current: the real images of the newest experience, for `data="mixed"` alone.
        """
        images = memory.buffer.train()
        targets = [RoutingTarget(prompt.caption.experience, prompt.caption.target) for prompt in memory.prompts]
        if self.data == "synthetic":
            return images, targets
        newest = memory.num_experiences - 1
        past = [i for i, target in enumerate(targets) if target.head != newest]
        real = torch.randperm(len(current))[: len(targets) - len(past)].tolist()
        mixed: Dataset[Any] = ConcatDataset([images.subset(past), current.train().subset(real)])
        return mixed, [targets[i] for i in past] + [
            RoutingTarget(newest, target) for target in class_ids(current, real)
        ]

    def fit(
        self,
        router: TaskRouter,
        images: Dataset[Any],
        targets: Sequence[RoutingTarget],
        *,
        known: Sequence[RoutingTarget],
        features: Callable[[Tensor], Tensor],
        optimizer: OptimizerFactory,
        batch_size: int,
        device: torch.device,
        num_workers: int = 0,
        title: str = "the router",
    ) -> float:
        """Train the router, and return the seconds that it took; an error leaves it as it was.

        **Arguments:**

        - images: samples that begin with what the model sees.
        - targets: where each of them belongs.
        - known: every class of every head, in the order of the router's units.
        - features: from what the model sees to what the router sees.
        - optimizer: where this training names none.
        - batch_size: of the strategy; two at least, for batch normalisation.
        - num_workers: of the loader.
        - title: for messages.
        """
        start = time.perf_counter()
        units = [unit.head for unit in known] if self.targets == "classes" else sorted({unit.head for unit in known})
        unit_of = {unit: i if self.targets == "classes" else unit.head for i, unit in enumerate(known)}
        of_sample = [unit_of[target] for target in targets]
        batch_size = max(2, batch_size)
        loader: DataLoader[Any] = DataLoader(
            _Labelled(images, of_sample),
            batch_size=batch_size,
            shuffle=True,
            drop_last=len(of_sample) > batch_size,
            num_workers=num_workers,
        )
        with router.unchanged_on_error():
            router.grow(units)
            router.to(device).requires_grad_(True).train()
            example = features(torch.stack([images[0][0]] * 2).to(device))
            with self._computing(router, example) as unit_logits:
                self._learn(router, unit_logits, loader, features, optimizer, device, title)
            router.zero_grad()
            router.requires_grad_(False).eval()
        return time.perf_counter() - start

    def _learn(
        self,
        router: TaskRouter,
        unit_logits: Callable[[Tensor], Tensor],
        loader: DataLoader[Any],
        features: Callable[[Tensor], Tensor],
        make_optimizer: OptimizerFactory,
        device: torch.device,
        title: str,
    ) -> None:
        optimizer = (self.optimizer or make_optimizer)(router.parameters())
        steps = self.epochs * len(loader)
        end_factor = 0.0 if self.falling_rate else 1.0
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, end_factor, total_iters=steps)
        criterion = nn.CrossEntropyLoss(label_smoothing=self.label_smoothing)
        with bar(total=steps, desc="training the router", unit="batch", leave=False) as shown:
            for epoch in range(self.epochs):
                for step, (x, target) in enumerate(loader):
                    loss = criterion(unit_logits(features(x.to(device))), target.to(device))
                    require_finite(loss, title, f"epoch {epoch}, iteration {step}")
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    shown.update()

    def _computing(self, router: TaskRouter, example: Tensor) -> AbstractContextManager[Callable[[Tensor], Tensor]]:
        compute = partial(router.unit_logits, augment=self.augment) if self.augment else router.unit_logits
        return nullcontext(compute) if self.precision == "float32" else fast_training(router, compute, example)


def require_finite(loss: Tensor, of: str, where: str) -> None:
    """Raise `FloatingPointError` for a loss that is no number, before anything is learnt from it."""
    if not bool(torch.isfinite(loss)):
        raise FloatingPointError(
            f"the loss of {of} is {loss.item()} at {where}; lower the learning rate, "
            "or look for values that are not finite among the images"
        )


def router_settings(optimizer: torch.optim.Optimizer, router: nn.Module) -> dict[str, Any]:
    """The settings of an optimizer's group that holds parameters of `router`, or else those that it was built with."""
    accepted = inspect.signature(type(optimizer)).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):  # passed on to its base
        accepted = inspect.signature(type(optimizer).__mro__[1]).parameters
    own = set(map(id, router.parameters()))
    groups = [group for group in optimizer.param_groups if own & set(map(id, group["params"]))]
    settings = {**optimizer.defaults, **(groups[0] if groups else {})}
    if "initial_lr" in settings:  # a schedule that warms up has already lowered the rate
        settings["lr"] = settings["initial_lr"]
    return {name: value for name, value in settings.items() if name in accepted and name != "params"}


def optimizer_like(optimizer: torch.optim.Optimizer, settings: dict[str, Any]) -> OptimizerFactory:
    """What makes an optimizer of the same class."""
    kind = type(optimizer)
    return lambda parameters: kind(parameters, **settings)


class _Labelled(Dataset[tuple[Tensor, int]]):
    """Images with the router's targets, in the place of their class."""

    def __init__(self, images: Any, targets: list[int]) -> None:
        self.images = images
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index][0], self.targets[index]
