"""What a router may be shown instead of the bare input, to bring real and regenerated images closer together."""

from __future__ import annotations

import copy
from typing import Any

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor, nn

from ._support.checks import require_one_of
from .choices import RouterView
from .images.keys import image_keys
from .images.normalisation import Normalisation, measure_normalisation
from .pair.abilities import Autoencodes, SuggestsView
from .pair.loading import Pair


class Autoencoded(nn.Module):
    """Images after the generator's own autoencoder: real ones lose what generated ones never had.

    The autoencoder is the pair's; it is neither trained nor counted nor saved. It sees values in [0, 1]. What it
    makes of the latest images is kept, up to `remembered` bytes, since a router sees its images in every epoch.

    **Arguments:**

    - pair: whose generator offers `autoencode(images)`.
    """

    remembered = 2**28

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        if not isinstance(pair.generator, Autoencodes):
            given = type(pair.generator).__name__
            raise ValueError(f"router_view is 'autoencoded', which needs a DiffusionGenerator, not a {given}")
        self._autoencode = pair.generator.autoencode
        self._normalisation: Normalisation | None = None
        self._views: dict[bytes, Tensor] = {}

    def look_at(self, dataset: AvalancheDataset) -> None:
        """Learn from a data set of the stream what its transforms do to values in [0, 1].

        Raises `ValueError` if they do more than normalise, or other than those of the data sets before.
        """
        self._normalisation = measure_normalisation(dataset, known=self._normalisation)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, 1 or 3, h, w)` to the same."""
        if not len(x):
            return x
        keys = image_keys(x)
        missing = {key: i for i, key in enumerate(keys) if key not in self._views}
        if missing:
            self._views.update(zip(missing, self._restored(x[list(missing.values())]), strict=True))
        seen = torch.stack([self._views[key].to(x.device) for key in keys])
        excess = len(self._views) - self.remembered // seen[0].nbytes
        for key in list(self._views)[: max(0, excess)]:  # the oldest
            del self._views[key]
        return seen

    def forget(self) -> None:
        """Keep no image any longer."""
        self._views = {}

    def __getstate__(self) -> dict[str, Any]:
        """No copy has its images."""
        return {**vars(self), "_views": {}}

    def __deepcopy__(self, memo: dict[int, Any]) -> Autoencoded:
        """A copy of a model has the pair in common with it."""
        return copy.copy(self)

    def state_dict_of_normalisation(self) -> dict[str, Any] | None:
        """What `look_at` has learnt, for a checkpoint, as JSON can hold it; None before."""
        return None if self._normalisation is None else self._normalisation.state_dict()

    def load_normalisation(self, state: dict[str, Any] | None) -> None:
        """Put back what `state_dict_of_normalisation` gave."""
        self._normalisation = None if state is None else Normalisation.of(state)

    def _restored(self, x: Tensor) -> Tensor:
        normalisation = self._normalisation or Normalisation()
        with torch.autocast(x.device.type, enabled=False):  # the same whether the router is learning or is asked
            restored = self._autoencode(normalisation.undone(x).expand(-1, 3, -1, -1))
        return normalisation.done(restored.mean(1, keepdim=True) if x.shape[1] == 1 else restored)


def suggested_view(pair: Pair) -> RouterView:
    """What the pair says that a router had best be shown; the input where it says nothing."""
    return pair.generator.router_view if isinstance(pair.generator, SuggestsView) else "input"


def view_of(name: RouterView | None, pair: Pair) -> Autoencoded | None:
    """The view that `router_view` names, or, without a name, that the pair suggests; None for the input as it is.

    Raises `ValueError` for an unknown name, and where the pair's generator has no autoencoder to offer.
    """
    if name is None:
        name = suggested_view(pair)
    require_one_of("router_view", name, RouterView)
    return Autoencoded(pair) if name == "autoencoded" else None
