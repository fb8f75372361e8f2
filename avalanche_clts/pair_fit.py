"""Does the pair know these images? What its captions name, and what heads recognise in the images made of them."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from .images.avalanche import class_ids
from .memory.buffer import CaptionBuffer
from .models import RoutedModel
from .pair.embedded import EMBEDDED

_logger = logging.getLogger("avalanche_clts")
_LOOKED_AT = 256  # images of either kind, at most
# Below which it is told: half of the captions, and half of what the head recognises in real images.
_LEAST_NAMED, _LEAST_RECOGNISED = 0.5, 0.5


@dataclass(frozen=True)
class PairFit:
    """How well a pair fits the images of an experience; shares, 0 to 1, None where they cannot be had.

    **Arguments:**

    - captions_named: of the experience's captions that say the name of their class.
    - regenerated_recognised: of the images regenerated for the experience that its own frozen head takes for the class
        of their caption.
    - real_recognised: the same of real training images.
    """

    captions_named: float | None = None
    regenerated_recognised: float | None = None
    real_recognised: float | None = None

    @classmethod
    def of(
        cls, model: RoutedModel, memory: CaptionBuffer, experience: Any, device: torch.device, *, batch_size: int
    ) -> PairFit:
        """Measure the newest experience, whose images may be in memory; none is generated for it."""

        def recognised(samples: Sequence[Tensor], targets: Sequence[int]) -> float:
            return _recognised(model, samples, targets, newest, device, batch_size)

        newest = memory.num_experiences - 1
        captions = [caption for caption in memory.memory if caption.experience == newest]
        names = [memory.class_name(caption) for caption in captions]
        named = [_says(c.text, name) for c, name in zip(captions, names, strict=True) if name is not None]
        captioned = [made.prompt.caption for made in memory.regenerated]
        made = [i for i, caption in enumerate(captioned) if caption.experience == newest]
        regenerated = None
        if made:
            images, spaced = memory.buffer.eval(), _spaced(len(made))
            indices = [made[i] for i in spaced]
            targets = [captioned[i].target for i in indices]
            regenerated = recognised([images[i][0] for i in indices], targets)
        dataset = experience.dataset.eval()
        indices = list(_spaced(len(dataset)))
        targets = class_ids(experience.dataset, indices)
        real = recognised([dataset[i][0] for i in indices], targets)
        return cls(sum(named) / len(named) if named else None, regenerated, real)

    def tell(self, experience: int) -> None:
        """Warn of a pair that does not know the images, and of what can be done."""
        told = []
        if self.captions_named is not None and self.captions_named < _LEAST_NAMED:
            told.append(f"{self.captions_named:.0%} of its captions name their class")
        regenerated, real = self.regenerated_recognised, self.real_recognised
        if regenerated is not None and real is not None and regenerated < _LEAST_RECOGNISED * real:
            told.append(f"the head recognises {regenerated:.0%} of the regenerated images, and {real:.0%} of the real")
        if told:
            _logger.warning(
                "the pair does not seem to know the images of experience %d: %s; use another pair (%s), a prompt "
                "template, or train one on images like these (clts pretrain)",
                experience,
                ", and ".join(told),
                "; ".join(f"{name} knows {pair.knows}" for name, pair in EMBEDDED.items()),
            )


def _spaced(count: int) -> Sequence[int]:
    indices: list[int] = torch.linspace(0, count - 1, min(_LOOKED_AT, count)).long().tolist()
    return indices


def _says(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None


@torch.no_grad()
def _recognised(
    model: RoutedModel,
    samples: Sequence[Tensor],
    targets: Sequence[int],
    head: int,
    device: torch.device,
    batch_size: int,
) -> float:
    training = model.training
    model.eval()
    said = []
    for batch in torch.stack(list(samples)).split(int(batch_size)):
        alone = one_hot(torch.full((len(batch),), head, device=device), model.num_heads)
        said.append(model.mixture(model.features(batch.to(device)), alone.float()).argmax(1).cpu())
    model.train(training)
    return float((torch.cat(said) == torch.tensor(targets)).float().mean())
