"""A row of the comparison, and what its strategy is built from.

What a row says of itself is read without loading torch or Avalanche: a builder imports what it builds with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ...choices import RouterView, Routing

if TYPE_CHECKING:
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.templates import SupervisedTemplate
    from torch import nn

    from ...pair.loading import Pair

Results = dict[str, Any]  # of one run, as `results.json` holds them
Options = Mapping[str, Any]
Grid = Mapping[str, Sequence[Any]]
Memory = Literal["captions", "labels", "images"]
Covariance = Literal["full", "diagonal"]  # of replayed features

AUGMENTATION = "augmentation"
# What a search tries of every strategy that is trained, whatever else it tries of one.
SHARED: Grid = {
    "learning_rate": [1e-3, 3e-3, 3e-4],
    "falling_rate": [False, True],
    AUGMENTATION: ["none", "shifted", "shifted and mirrored"],
}
# On frozen features nobody augments, and a linear layer may learn at a higher rate.
ON_FEATURES: Grid = {"learning_rate": [*SHARED["learning_rate"], 1e-2], "falling_rate": SHARED["falling_rate"]}


class Networks(NamedTuple):
    """The networks that every strategy of a comparison is made of.

    **Arguments:**

    - network: makes the network, given its number of outputs; called once for each copy that a strategy needs.
    - router: makes the router's network in the same way: what is below its growing output.
    - backbone: frozen, below every network and the router. None: they see the input.
    """

    network: Callable[[int], nn.Module]
    router: Callable[[int], nn.Module]
    backbone: nn.Module | None


@dataclass(frozen=True)
class Setup:
    """What a strategy is built from.

    **Arguments:**

    - network, router, backbone: see `Networks`.
    - num_classes: of the stream.
    - captions_per_class, num_captions: as many as CLTS keeps of a class in an experience that shows it, and of the
        whole stream.
    - image_nbytes: bytes of a native image of the stream.
    - input_shape, value_range: of what the network sees, `(channels, height, width)` and smallest and largest value.
    - train_epochs, train_mb_size, eval_mb_size, learning_rate: of every strategy.
    - memory, routing, router_view: of CLTS, as in `Experiment`.
    - options: the hyper-parameters of this strategy.
    - clts: the finished CLTS run on the same stream and seed, whose memory sets the budgets of replay.
    """

    network: Callable[[int], nn.Module]
    router: Callable[[int], nn.Module]
    backbone: nn.Module | None
    num_classes: int
    captions_per_class: int
    num_captions: int
    image_nbytes: int
    input_shape: tuple[int, ...]
    value_range: tuple[float, float]
    train_epochs: int
    train_mb_size: int
    eval_mb_size: int
    learning_rate: float
    memory: Memory
    routing: Routing
    router_view: RouterView | None
    options: Options
    pair: Pair
    evaluator: EvaluationPlugin
    device: str
    clts: Results | None = None

    def common(self, model: nn.Module) -> dict[str, Any]:
        """The arguments that are the same for every strategy."""
        from torch import nn
        from torch.optim import Adam

        return {
            "model": model,
            "optimizer": Adam(model.parameters(), lr=self.learning_rate),
            "criterion": nn.CrossEntropyLoss(),
            "train_mb_size": self.train_mb_size,
            "train_epochs": self.train_epochs,
            "eval_mb_size": self.eval_mb_size,
            "device": self.device,
            "evaluator": self.evaluator,
        }

    def single(self) -> dict[str, Any]:
        """`common` around one network with an output for every class."""
        return self.common(self.whole_network())

    def whole_network(self) -> nn.Module:
        """A network with an output for every class, on the backbone if there is one."""
        from torch import nn

        network = self.network(self.num_classes)
        return network if self.backbone is None else nn.Sequential(self.backbone, network)

    @property
    def num_features(self) -> int:
        """Numbers that a network sees of an input."""
        if self.backbone is None:
            return math.prod(self.input_shape)
        import torch

        return int(self.backbone(torch.zeros(1, *self.input_shape)).shape[1])

    def clts_bytes(self, *kinds: str) -> int:
        """The bytes of those kinds, together, that the CLTS run kept.

        Raises `ValueError` if there is no such run, or if it is not known what it kept.
        """
        if self.clts is None:
            raise ValueError("this strategy's budget is that of CLTS; run clts on the same stream and seed first")
        kept = [self.clts["memory_bytes"][kind] for kind in kinds]
        if None in kept:
            raise ValueError(f"this strategy's budget is that of CLTS, whose bytes of {', '.join(kinds)} are unknown")
        return sum(kept)


@dataclass(frozen=True)
class Row:
    """A row of the comparison.

    **Arguments:**

    - name: as `--strategies` takes it.
    - description: what it is, in a phrase.
    - build: makes the strategy.
    - keeps: what it keeps between experiences, in a phrase.
    - colour, line, marker: of its curve, as matplotlib has them: a family shares a colour of `colours`, which line and
        marker tell apart.
    - grid: what the search tries of what is the strategy's own, by hyper-parameter, beside `SHARED`; the value that
        comes first is tried first. Empty: it has nothing of its own.
    - grid_on: the same, where it is another one on a kind of streams.
    - choices: what can be set but is not searched, by hyper-parameter: all values that it may have.
    - shares: the hyper-parameters that are shares of a whole: from 0 to below 1.
    - family: of rows that are one curve of accuracy over memory, at several budgets. Empty: it is one by itself.
    - keeps_stream: whether it keeps the whole stream, so that no budget is its own.
    - after_clts: whether its memory budget is that of the CLTS run on the same stream and seed.
    - uses_pair: whether its outcome depends on the pair.
    - trained: whether an optimizer trains it, so that it has what is `SHARED`.
    - on_features: whether it is made of a frozen backbone's features, and of nothing else.
    - like: the strategy whose hyper-parameters it has where none of its own are given. Empty: those that it comes with.
    - compared: whether it is a row of the comparison; if not, it serves an ablation.
    - unfit: why it cannot run on a benchmark. None: it can.
    - unfit_pair: why it cannot run with a pair. None: it can.
    """

    name: str
    description: str
    build: Callable[[Setup], SupervisedTemplate]
    keeps: str
    colour: str
    line: str = "-"
    marker: str = "o"
    grid: Grid = field(default_factory=dict)
    grid_on: Mapping[str, Grid] = field(default_factory=dict)
    choices: Grid = field(default_factory=dict)
    shares: Sequence[str] = ()
    family: str = ""
    keeps_stream: bool = False
    after_clts: bool = False
    uses_pair: bool = False
    trained: bool = True
    on_features: bool = False
    like: str = ""
    compared: bool = True
    unfit: Callable[[Any], str | None] = lambda benchmark: None
    unfit_pair: Callable[[Pair], str | None] = lambda pair: None

    @property
    def needs_pair(self) -> bool:
        """Whether a run, or the budget of a run, depends on the pair."""
        return self.uses_pair or self.after_clts

    def searched(self, stream_kind: str, *, on_features: bool = False) -> Grid:
        """What the search tries on streams of a kind: what is the strategy's own, and what is everyone's. Nothing for
        one that is like another: it has what is found for that, so that the two differ in one thing alone.

        **Arguments:**

        - on_features: whether networks see the features of a frozen backbone, which are those of images as they are.
        """
        if self.like:
            return {}
        shared = ON_FEATURES if on_features and self.trained else self._shared
        return {**self.grid_on.get(stream_kind, self.grid), **shared}

    @property
    def _shared(self) -> Grid:
        return SHARED if self.trained else {}

    def require_options(self, options: Options) -> None:
        """Raise `ValueError` or `TypeError` for a hyper-parameter that the strategy does not have, or a value that it
        cannot have."""
        if not isinstance(options, Mapping):
            raise TypeError(f"hyperparameters has {self.name} of {options!r}; it must be a table of names and values")
        values = {**self.grid, **self._shared, **self.choices}
        for option, value in options.items():
            if option not in values:
                listed = ", ".join(values) or "none"
                raise ValueError(
                    f"hyperparameters has {self.name}.{option}; the hyper-parameters of {self.name}: {listed}"
                )
            given = f"hyperparameters has {self.name}.{option} of {value!r}"
            allowed = values[option]
            if all(isinstance(other, (int, float)) and not isinstance(other, bool) for other in allowed):
                _require_like(given, value, allowed, below=1 if option in self.shares else math.inf)
            elif value not in allowed or isinstance(value, bool) != isinstance(allowed[0], bool):  # 1 == True
                raise ValueError(f"{given}; it must be one of {', '.join(map(str, allowed))}")


def _require_like(given: str, value: Any, tried: Sequence[Any], *, below: float) -> None:
    """Raise `ValueError` unless `value` is a number above 0 (or 0, if a search tries that) and below `below`, and a
    whole one where a search tries only such."""
    whole = all(isinstance(other, int) for other in tried)
    number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < below or (value == 0 and 0 not in tried):
        allowed = f"{'a whole number' if whole else 'a number'} {'of at least' if 0 in tried else 'above'} 0"
        allowed += "" if below == math.inf else f" and below {below}"
        raise ValueError(f"{given}; it must be {allowed}")
