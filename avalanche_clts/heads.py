"""What a head was trained on, and heads that grow."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from avalanche.models import DynamicModule
from avalanche.models.dynamic_modules import avalanche_model_adaptation
from torch import nn

from .images.avalanche import adaptable


@dataclass(frozen=True)
class HeadRecord:
    """What a head was trained on.

    **Arguments:**

    - classes: the classes that it knows.
    - task_labels: the task labels of its training images.
    - experience: `current_experience` of its training experience.
    """

    classes: tuple[int, ...]
    task_labels: tuple[int, ...]
    experience: int


def grow(head: nn.Module, record: HeadRecord, experience: Any = SimpleNamespace()) -> None:
    """Let a head's growing modules adapt to what it is trained on, and to nothing that Avalanche shows them later."""
    growing = [module for module in head.modules() if isinstance(module, DynamicModule)]
    if not growing:
        return
    training = {module: module.training for module in head.modules()}
    head.train()
    for module in growing:
        module._auto_adapt = module._auto_adapt or getattr(module, "_was_auto_adapt", False)
    avalanche_model_adaptation(head, adaptable(experience, record.classes, record.task_labels))
    for module in head.modules():
        if isinstance(module, DynamicModule) and module._auto_adapt:
            module._was_auto_adapt = True
            module._auto_adapt = False
        module.training = training.get(module, module.training)
