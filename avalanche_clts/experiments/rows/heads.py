"""Task heads without a router: the most confident one decides. What CLTS is without a generator."""

from __future__ import annotations

from avalanche.training.supervised import Naive
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from ...models import RoutedModel, TaskRouter
from .row import Row, Setup


class ConfidenceRouter(TaskRouter):
    """Reads p(head) off the heads themselves: the free energy of their logits (Liu et al., NeurIPS 2020).

    It learns nothing and weighs nothing. `of` tells it whose heads.
    """

    def __init__(self) -> None:
        super().__init__(nn.Identity())
        self._model: tuple[RoutedModel, ...] = ()  # in a tuple: the model is no part of its router

    def of(self, model: RoutedModel) -> None:
        """Read the heads of `model`, whose router this is."""
        self._model = (model,)

    @property
    def num_heads(self) -> int:
        """How many heads the model has."""
        return self._model[0].num_heads if self._model else 0

    @property
    def num_experiences(self) -> int:
        """As many as heads."""
        return self.num_heads

    def log_probabilities(self, features: Tensor) -> Tensor:
        """log p(head), `(n, num_heads)`: the log of the sum of exp of its logits, normalised over heads."""
        log_p: Tensor = self(features).log_softmax(1)
        return log_p

    def forward(self, x: Tensor) -> Tensor:
        """How sure each head is that an input is of its classes, `(n, num_heads)`."""
        return self._model[0].confidence(x)


def build(setup: Setup) -> SupervisedTemplate:
    """`Naive` on a `RoutedModel`: nothing but the heads is trained."""
    router = ConfidenceRouter()
    model = RoutedModel(head=setup.network(setup.num_classes), router=router, backbone=setup.backbone)
    router.of(model)
    return Naive(**setup.common(model))


ROWS = [
    Row(
        "heads",
        "task heads alone: the most confident one decides, and no generator is needed",
        build,
        keeps="the heads",
        colour="#f4a6b0",
        line="-.",
    )
]
