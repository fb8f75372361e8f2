"""What the contract with Avalanche is tried on: coloured squares, a pair that knows colours, and three strategies.

`build("replay")` is the control: Naive with Avalanche's own ReplayPlugin. A pattern that it passes, the other two pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.benchmarks.utils import AvalancheDataset, make_avalanche_dataset
from avalanche.benchmarks.utils.classification_dataset import ClassificationDataset
from avalanche.benchmarks.utils.data_attribute import DataAttribute
from avalanche.benchmarks.utils.transform_groups import TransformGroups
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive
from avalanche.training.templates import SupervisedTemplate
from PIL import Image
from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms import ToTensor

from avalanche_clts import CLTS, CaptionBuffer, CaptionReplayPlugin, Pair, RoutedModel

KINDS = ("replay", "caption-replay", "clts")
every_kind = pytest.mark.parametrize("kind", KINDS)
replay_kinds = pytest.mark.parametrize("kind", KINDS[:2])
with_captions = pytest.mark.parametrize("kind", KINDS[1:])

SIZE = 8
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (40, 60, 230),
    "yellow": (230, 220, 40),
    "purple": (200, 40, 210),
    "cyan": (40, 210, 210),
}
NAMES = list(COLOURS)


def square(name: str, seed: int, size: int = SIZE) -> Image.Image:
    """A square of one colour, with noise."""
    noise = np.random.RandomState(seed % 2**32).randint(-15, 16, (size, size, 3))
    return Image.fromarray((np.array(COLOURS[name]) + noise).clip(0, 255).astype(np.uint8))


class Seer:
    """A captioner that says which colour it sees, and remembers what it was shown under which names."""

    def __init__(self) -> None:
        self.images: list[Image.Image] = []
        self.names: list[str | None] = []

    def caption(self, images: Sequence[Image.Image], class_names: Sequence[str] | None = None) -> list[str]:
        self.images += images
        self.names += class_names if class_names is not None else [None] * len(images)
        return [f"a {nearest_colour(image)} square" for image in images]


class Painter:
    """A generator that paints the colour that a prompt says, and remembers how often it was asked."""

    def __init__(self, size: int = 16) -> None:
        self.size = size
        self.prompts: list[str] = []
        self.calls = 0

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        self.calls += 1
        self.prompts += prompts
        said = [next(name for name in NAMES if name in prompt) for prompt in prompts]
        return [square(name, seed, self.size) for name, seed in zip(said, seeds, strict=True)]


def nearest_colour(image: Image.Image | torch.Tensor) -> str:
    """The name of an image's colour; of a tensor with values in [0, 1] as well."""
    if isinstance(image, torch.Tensor):
        mean = image.mean((1, 2)).numpy() * 255
    else:
        mean = np.asarray(image.convert("RGB")).reshape(-1, 3).mean(0)
    return min(NAMES, key=lambda name: float(np.abs(np.array(COLOURS[name]) - mean).sum()))


class Squares(Dataset):
    """Squares as a torchvision data set hands them out: PIL images, `targets`, `classes`."""

    def __init__(self, targets: Sequence[int], *, seed: int = 0, size: int = SIZE) -> None:
        self.targets = list(targets)
        self.classes = NAMES[: max(self.targets) + 1]
        self.images = [square(NAMES[t], 1000 * seed + i, size) for i, t in enumerate(self.targets)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.images[index], self.targets[index]


def squares(classes: Sequence[int] = range(4), each: int = 8, *, seed: int = 0, size: int = SIZE) -> Squares:
    """`each` squares of each of the classes."""
    return Squares([k for k in classes for _ in range(each)], seed=seed, size=size)


def avalanche_squares(
    classes: Sequence[int] = range(4), each: int = 8, *, seed: int = 0, task: int | None = None, transform: Any = None
) -> AvalancheDataset:
    """The same as Avalanche's own data set, without task labels or with one."""
    data = squares(classes, each, seed=seed)
    attributes = [DataAttribute(data.targets, "targets")]
    if task is not None:
        attributes.append(DataAttribute([task] * len(data), "targets_task_labels", use_in_getitem=True))
    transform = (transform or ToTensor(), None)
    groups = TransformGroups({"train": transform, "eval": transform})
    return ClassificationDataset([make_avalanche_dataset(data)], data_attributes=attributes, transform_groups=groups)


def new_classes(
    *, each: int = 8, classes: int = 4, experiences: int = 2, task_labels: bool = False, **options: Any
) -> Any:
    """Four colours, two an experience."""
    defaults = {"fixed_class_order": list(range(classes)), "train_transform": ToTensor(), "eval_transform": ToTensor()}
    train, test = squares(range(classes), each), squares(range(classes), 4, seed=1)
    return nc_benchmark(train, test, experiences, task_labels=task_labels, **{**defaults, **options})


def network(outputs: int = 6, size: int = SIZE) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size**2, 32), nn.Tanh(), nn.Linear(32, outputs))


def accuracy() -> EvaluationPlugin:
    return EvaluationPlugin(accuracy_metrics(epoch=True, experience=True, stream=True))


def build(
    kind: str,
    *,
    head: nn.Module | None = None,
    router: nn.Module | None = None,
    replay: dict[str, Any] | None = None,
    optimizer: Any = lambda model: torch.optim.Adam(model.parameters(), lr=3e-3),
    plugins: Sequence[Any] = (),
    **options: Any,
) -> SupervisedTemplate:
    """A strategy of the kind, small and quick.

    - head: the network; for "clts" the network of each head.
    - router: the router's network, for "clts".
    - optimizer: makes one of the model.
    - replay: arguments of the ReplayPlugin, of the CaptionReplayPlugin, or of CLTS, which ignores those of replay.
    """
    torch.manual_seed(0)
    replay = dict(replay or {})
    head = head if head is not None else network()
    common = {"train_mb_size": 8, "train_epochs": 10, "eval_mb_size": 64, "evaluator": accuracy(), **options}
    common.setdefault("criterion", nn.CrossEntropyLoss())
    if kind == "clts":
        model = RoutedModel(head=head, router=router if router is not None else network(12))
        for name in ("mem_size", "batch_size", "batch_size_mem", "task_balanced_dataloader"):
            replay.pop(name, None)
        replay = {"captions_per_class": 3, "replay_size": 48, "router_epochs": 8, **replay}
        pair = Pair(Seer(), Painter())
        return CLTS(model=model, optimizer=optimizer(model), pair=pair, plugins=plugins, **replay, **common)
    replay = {"mem_size": 24, **replay}
    memory = ReplayPlugin(**replay) if kind == "replay" else CaptionReplayPlugin(pair=Pair(Seer(), Painter()), **replay)
    return Naive(model=head, optimizer=optimizer(head), plugins=[memory, *plugins], **common)


def memory_of(strategy: SupervisedTemplate) -> CaptionBuffer:
    """The strategy's memory of captions."""
    policies = [getattr(plugin, "storage_policy", None) for plugin in strategy.plugins]
    return next(policy for policy in policies if isinstance(policy, CaptionBuffer))


def stream_accuracy(strategy: SupervisedTemplate, stream: Any) -> float:
    """Mean accuracy over all of a stream's inputs, by what `eval` predicts."""
    right: list[bool] = []

    class Count(SupervisedPlugin):
        def after_eval_iteration(self, strategy: Any, **kwargs: Any) -> None:
            right.extend((strategy.mb_output.argmax(1) == strategy.mb_y).tolist())

    count = Count()
    strategy.plugins.append(count)
    strategy.eval(stream)
    strategy.plugins.remove(count)
    return sum(right) / len(right)


def learn(strategy: SupervisedTemplate, benchmark: Any, **options: Any) -> float:
    """Train on each experience; the accuracy on the test stream."""
    for experience in benchmark.train_stream:
        strategy.train(experience, **options)
    return stream_accuracy(strategy, benchmark.test_stream)


class Watch(SupervisedPlugin):
    """Notes what happens in a strategy."""

    def __init__(self) -> None:
        super().__init__()
        self.evaluations = 0
        self.epochs: list[int] = []
        self.rates: list[list[float]] = []

    def before_eval(self, strategy: Any, **kwargs: Any) -> None:
        self.evaluations += 1

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.rates.append([])

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self.rates[-1].append(strategy.optimizer.param_groups[0]["lr"])

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.epochs.append(strategy.clock.train_exp_epochs)
