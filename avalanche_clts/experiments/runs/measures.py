"""What is said of a trained strategy, in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from avalanche.models.utils import avalanche_forward
from avalanche.training.templates import SupervisedTemplate
from torch.utils.data import DataLoader

from ...asking_plugin import AskCaptionerPlugin
from ...models import RoutedModel


def summarize_matrix(matrix: list[list[float]]) -> dict[str, float | None]:
    """Average accuracy, forgetting and backward transfer of an accuracy matrix R.

    - average_accuracy: mean of the last row.
    The latter two are None where there is one row, as nothing was learnt after anything, and where the test stream is
    not divided like the training stream.

    - forgetting: mean over j < T of max over i < T of R[i][j], minus R[T][j] (Chaudhry et al., ECCV 2018).
    - backward_transfer: mean over j < T of R[T][j] - R[j][j] (Lopez-Paz and Ranzato, NeurIPS 2017).
    """
    table = np.array(matrix)
    last = len(table) - 1
    forgetting = transfer = None
    if last > 0 and table.shape[0] == table.shape[1]:
        # A task cannot be forgotten before it was learnt: the maximum runs over the rows from j on.
        forgetting = float(np.mean([table[j:last, j].max() - table[last, j] for j in range(last)]))
        transfer = float(np.mean([table[last, j] - table[j, j] for j in range(last)]))
    return {
        "average_accuracy": float(table[last].mean()),
        "forgetting": forgetting,
        "backward_transfer": transfer,
    }


@torch.inference_mode()
def class_accuracy(agent: SupervisedTemplate, stream: Any, num_classes: int) -> list[float | None]:
    """Accuracy on each class's test images, by class id; None for a class without any."""
    agent.model.eval()
    right, count = torch.zeros(num_classes), torch.zeros(num_classes)
    for experience in stream:
        for x, y, *labels in DataLoader(experience.dataset.eval(), batch_size=agent.eval_mb_size):
            x = x.to(agent.device)
            output = avalanche_forward(agent.model, x, labels[0].to(agent.device) if labels else None)
            for plugin in agent.plugins:
                if isinstance(plugin, AskCaptionerPlugin):
                    output = plugin.both(x, output, labels[0] if labels else None)
            count += torch.bincount(y, minlength=num_classes)
            right += torch.bincount(y[output.argmax(1).cpu() == y], minlength=num_classes)
    return [(r / n).item() if n else None for r, n in zip(right, count, strict=True)]


@torch.inference_mode()
def router_confusion(agent: SupervisedTemplate, stream: Any) -> list[list[float]] | None:
    """Row j, column t: share of test experience j's inputs that the router sends to head t. None without a router."""
    model = agent.model
    if not isinstance(model, RoutedModel):
        return None
    model.eval()
    rows = []
    for experience in stream:
        counts = torch.zeros(model.num_heads)
        for x, *_ in DataLoader(experience.dataset.eval(), batch_size=agent.eval_mb_size):
            chosen = model.route(x.to(agent.device)).argmax(1).cpu()
            counts += torch.bincount(chosen, minlength=model.num_heads)
        rows.append((counts / counts.sum()).tolist())
    return rows


def last_value(metrics: dict[str, Any], name: str, ending: str = "") -> float | None:
    """The last value of the test-stream metric whose name starts and ends so, or None."""
    for key, value in metrics.items():
        if key.startswith(f"{name}/eval_phase/test_stream") and key.endswith(ending):
            return float(value)
    return None
