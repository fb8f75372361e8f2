"""Task heads without a router: the most confident one decides. What CLTS is without a generator."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models import RoutedModel
from ...routers import Router


class ConfidenceRouter(Router):
    """Reads p(head) off the heads themselves: the free energy of their logits (Liu et al., NeurIPS 2020).

    It learns nothing and weighs nothing. `of` tells it whose heads.
    """

    def __init__(self) -> None:
        super().__init__()
        self._model: tuple[RoutedModel, ...] = ()  # in a tuple: the model is no part of its router

    def of(self, model: RoutedModel) -> None:
        """Read the heads of `model`, whose router this is."""
        self._model = (model,)

    @property
    def num_heads(self) -> int:
        """All that the model has."""
        return self._model[0].num_heads if self._model else 0

    def log_probabilities(self, features: Tensor) -> Tensor:
        """How sure each head is that an input is of its classes, normalised over heads, `(n, num_heads)`."""
        (model,) = self._model
        energies = [
            model.heads[t](features)[:, list(record.classes)].logsumexp(1) for t, record in enumerate(model.records)
        ]
        return torch.stack(energies, dim=1).log_softmax(1)
