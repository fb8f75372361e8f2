"""Can it be told from what is kept whether an image was among those that were learnt from?

Each attack gives every image a score, higher for a likelier member, and is judged by the area under its ROC curve: 0.5
is guessing, 1 is certainty. The attack on networks is that of Yeom et al. (CSF 2018), on the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ...memory.captions import Caption
from ...models import RoutedModel
from .pixels import nearest, pixels_of

Scores = NDArray[np.float64]


def area(members: Scores, others: Scores) -> float:
    """Area under the ROC curve of an attack."""
    labels = np.concatenate([np.ones(len(members)), np.zeros(len(others))])
    return float(roc_auc_score(labels, np.concatenate([members, others])))


def caption_scores(texts: Sequence[str], targets: Sequence[int], kept: Sequence[Caption]) -> Scores:
    """For each image, from what the captioner says of it: the share of words that it has in common with the stored
    caption of its class that is most like it (Jaccard index)."""
    stored: dict[int, list[set[str]]] = {}
    for caption in kept:
        stored.setdefault(caption.target, []).append(set(caption.text.split()))
    return np.array(
        [
            max((_overlap(set(text.split()), words) for words in stored.get(target, [])), default=0.0)
            for text, target in zip(texts, targets, strict=True)
        ]
    )


def buffer_scores(images: Sequence[Image.Image], stored: Sequence[Image.Image]) -> Scores:
    """For each image: how near it is to an image of a replay buffer."""
    return -nearest(pixels_of(images), pixels_of(stored))


@torch.inference_mode()
def head_scores(model: RoutedModel, data: Any, head: int, device: torch.device) -> Scores:
    """For each image of an experience: log p(its class) by the experience's own head."""
    return _scores(data, device, lambda x: model.mixture(model.features(x), _sure_of(head, model, x)), None)


@torch.inference_mode()
def router_scores(model: RoutedModel, data: Any, head: int, device: torch.device) -> Scores:
    """For each image of an experience: log p(its own head) by the router."""
    return _scores(data, device, lambda x: model.route(x).log(), head)


def _scores(data: Any, device: torch.device, log_probabilities: Any, column: int | None) -> Scores:
    scores = []
    for first in range(0, len(data), 256):
        samples = [data[i] for i in range(first, min(first + 256, len(data)))]
        x = torch.stack([sample[0] for sample in samples]).to(device)
        columns = [int(sample[1]) if column is None else column for sample in samples]
        rows = log_probabilities(x).cpu()
        scores.append(rows[torch.arange(len(rows)), columns].double().numpy())
    return np.concatenate(scores)


def _sure_of(head: int, model: RoutedModel, x: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(torch.full((len(x),), head), model.num_heads).to(x)


def _overlap(first: set[str], second: set[str]) -> float:
    return len(first & second) / max(1, len(first | second))
