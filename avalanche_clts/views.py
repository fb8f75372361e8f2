"""What a router may be shown instead of the bare input, to bring real and regenerated images closer together."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from .images.normalisation import Normalisation
from .pair.loading import Pair

View = Literal["input", "autoencoded", "augmented"]


class Autoencoded(nn.Module):
    """Images after the generator's own autoencoder: real ones lose what generated ones never had.

    The autoencoder is the pair's; it is neither trained nor counted nor saved. It sees values in [0, 1]. What it
    makes of the latest images is kept, up to `remembered` bytes, since a router sees its images in every epoch.
    """

    remembered = 2**28

    def __init__(self, pair: Pair, normalisation: Normalisation) -> None:
        super().__init__()
        autoencode: Callable[[Tensor], Tensor] | None = getattr(pair.generator, "autoencode", None)
        if autoencode is None:
            given = type(pair.generator).__name__
            raise ValueError(f"view is 'autoencoded', which needs a DiffusionGenerator, not a {given}")
        self._autoencode = autoencode
        self._normalisation = normalisation
        self._views: dict[bytes, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """`(n, 1 or 3, h, w)` to the same."""
        keys = [blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in x.detach().cpu()]
        missing = {key: i for i, key in enumerate(keys) if key not in self._views}
        if missing:
            self._views.update(zip(missing, self._restored(x[list(missing.values())]), strict=True))
        seen = torch.stack([self._views[key].to(x.device) for key in keys])
        excess = len(self._views) - self.remembered // seen[0].nbytes
        for key in list(self._views)[: max(0, excess)]:  # the oldest
            del self._views[key]
        return seen

    def _restored(self, x: Tensor) -> Tensor:
        restored = self._autoencode(self._normalisation.undone(x).expand(-1, 3, -1, -1))
        return self._normalisation.done(restored.mean(1, keepdim=True) if x.shape[1] == 1 else restored)


class Augmented(nn.Module):
    """Images strongly augmented, in [0, 1], while the router trains, each in its own way; as they are at test."""

    def __init__(self, size: tuple[int, int], normalisation: Normalisation) -> None:
        super().__init__()
        self._normalisation = normalisation
        self.augment = v2.Compose(
            [
                v2.RandomResizedCrop(size, scale=(0.6, 1.0), ratio=(0.8, 1.25), antialias=True),
                v2.RandomAffine(degrees=15, translate=(0.1, 0.1)),
                v2.ColorJitter(0.3, 0.3, 0.3),
                v2.RandomApply([v2.GaussianBlur(3, (0.1, 1.0))], p=0.5),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(n, 1 or 3, h, w)` to the same."""
        if not self.training:
            return x
        return self._normalisation.done(torch.stack([self.augment(image) for image in self._normalisation.undone(x)]))


def viewed(
    router: nn.Module, view: View, *, pair: Pair, size: tuple[int, int], normalisation: Normalisation
) -> nn.Module:
    """The router's network behind a view.

    **Arguments:**

    - size, normalisation: of what the router sees, `(height, width)` in pixels.
    """
    if view == "input":
        return router
    seen = Autoencoded(pair, normalisation) if view == "autoencoded" else Augmented(size, normalisation)
    return nn.Sequential(seen, router)
