"""What a search tries of every strategy: the course of its learning rate, and augmentation."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import LRSchedulerPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor
from torch.nn.functional import pad
from torch.optim.lr_scheduler import CosineAnnealingLR

from ...plugins import CLTSPlugin
from .row import Options

_SHIFT = 8  # images are shifted by up to this part of their side


class Augmentation(SupervisedPlugin):
    """Every image of a batch that is trained on, real or regenerated, shifted by up to an eighth of its side.

    **Arguments:**

    - mirrored: whether one in two is mirrored as well, which digits and letters do not bear.
    """

    def __init__(self, *, mirrored: bool) -> None:
        super().__init__()
        self.mirrored = mirrored

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Augment the batch in place of its images, and that of memory where a strategy has it apart."""
        strategy.mbatch[0] = augmented(strategy.mb_x, mirrored=self.mirrored)
        if getattr(strategy, "mb_buffer_x", None) is not None:  # ER-ACE
            strategy.mb_buffer_x = augmented(strategy.mb_buffer_x, mirrored=self.mirrored)

    def augment_first(self, count: int, strategy: Any) -> None:
        """Augment the first images of the batch, which a strategy has put there after its plugins were asked."""
        strategy.mbatch[0][:count] = augmented(strategy.mbatch[0][:count], mirrored=self.mirrored)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: it draws from torch's global generator."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""


def augmented(images: Tensor, *, mirrored: bool) -> Tensor:
    """Images `(n, channels, height, width)`, each shifted, and mirrored or not, by itself; what comes in at a border
    is what the border shows."""
    n, _, height, width = images.shape
    down, right = max(1, height // _SHIFT), max(1, width // _SHIFT)
    framed = pad(images, (right, right, down, down), mode="replicate")
    rows = torch.arange(height) + torch.randint(2 * down + 1, (n, 1))
    columns = torch.arange(width) + torch.randint(2 * right + 1, (n, 1))
    if mirrored:
        columns = torch.where(torch.rand(n, 1) < 0.5, columns, columns.flip(1))
    which = torch.arange(n)
    indices = (index.to(images.device) for index in (which[:, None, None], rows[:, :, None], columns[:, None, :]))
    chosen, row, column = indices
    return framed.permute(0, 2, 3, 1)[chosen, row, column].permute(0, 3, 1, 2)


def apply_shared(agent: SupervisedTemplate, options: Options) -> None:
    """Give a strategy what `options` have of `SHARED`, but for the learning rate: that its optimizer was made with.

    A router's images are augmented as the heads' are: they are no part of the strategy's batches.
    """
    if options.get("falling_rate", False):
        # Within each experience, from its optimizer's rate to nothing.
        agent.plugins.append(LRSchedulerPlugin(CosineAnnealingLR(agent.optimizer, agent.train_epochs)))
    kind = options.get("augmentation", "none")
    if kind != "none":
        mirrored = kind == "shifted and mirrored"
        agent.plugins.insert(0, Augmentation(mirrored=mirrored))  # what iCaRL distils from is computed after it
        for plugin in agent.plugins:
            if isinstance(plugin, CLTSPlugin):
                augment = partial(augmented, mirrored=mirrored)
                plugin.router_training = replace(plugin.router_training, augment=augment)
