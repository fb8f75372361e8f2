"""A small network that reads a caption's words off its image: what it looks at, a generated image has to keep."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..pair.precision import fast_multiplication
from .captioner import words_of
from .pool import pixels
from .recipe import Recipe
from .training import draw, fit

_WIDTHS = (32, 64, 128, 128)  # channels at the images' size, half of it, and so on
_MOST_WORDS = 500  # of captions that people wrote, thousands are rare


class FeatureNetwork(nn.Module):
    """Four convolutions, each at half the size of the one before, and which words the caption has.

    **Arguments:**

    - num_words: that captions are told apart by.
    """

    def __init__(self, num_words: int) -> None:
        super().__init__()
        inputs = (3, *_WIDTHS)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
            for before, width in zip(inputs, _WIDTHS, strict=False)
        )
        self.words = nn.Linear(2 * _WIDTHS[-1], num_words)

    def features(self, images: Tensor) -> list[Tensor]:
        """Of every stage, `(n, channels, h, w)`; images are `(n, 3, h, w)` in [-1, 1]."""
        found = [self.stages[0](images)]
        for stage in self.stages[1:]:
            found.append(stage(F.max_pool2d(found[-1], 2)))
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the words, `(n, num_words)`."""
        last = self.features(images)[-1]
        logits: Tensor = self.words(torch.cat([last.mean((2, 3)), last.amax((2, 3))], dim=1))
        return logits


def train_features(images: Tensor, captions: list[str], work: Path, recipe: Recipe) -> FeatureNetwork:
    """Train on images, uint8 `(n, 3, h, w)`, and their captions; the network returned is frozen."""
    targets = _words(captions).to(recipe.device)
    network = FeatureNetwork(targets.shape[1]).to(recipe.device)

    def batch_loss(generator: torch.Generator) -> Tensor:
        i = draw(len(images), recipe.batch_size // 2, generator)
        with fast_multiplication(recipe.device):
            logits = network(pixels(images[i]))
        # Summed over the words: a caption says one of many names.
        return F.binary_cross_entropy_with_logits(logits.float(), targets[i].float(), reduction="sum") / len(i)

    fit(network, batch_loss, name="features", folder=work, steps=recipe.feature_steps, learning_rate=2e-3)
    return network.requires_grad_(False)


def feature_distance(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Squared distance of two batches' features, each pixel's scaled to length 1, averaged over pixels and summed over
    stages: `(n,)`. As LPIPS without its weights (Zhang et al., CVPR 2018)."""
    return torch.stack(
        [
            (F.normalize(a.float(), dim=1, eps=1e-3) - F.normalize(b.float(), dim=1, eps=1e-3))
            .square()
            .sum(1)
            .mean((1, 2))
            for a, b in zip(ours, theirs, strict=True)
        ]
    ).sum(0)


def _words(captions: list[str]) -> Tensor:
    """Which caption has which word, `(captions, words)`, of the commonest; a word of every caption tells nothing."""
    said = [set(words_of(caption)) for caption in captions]
    counts = Counter(word for words in said for word in words)
    telling = {word: count for word, count in counts.items() if count < len(captions)} or counts
    vocabulary = [word for word, _ in Counter(telling).most_common(_MOST_WORDS)]
    return torch.tensor([[word in words for word in vocabulary] for words in said])
