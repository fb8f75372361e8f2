"""What a captioner or generator may offer beyond captions and images; asked for with `isinstance`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from ..choices import RouterView
from .rgb import rgb_images, to_size

if TYPE_CHECKING:
    import torch

    from .captioners import Captioner
    from .generators import Generator

_AT_ONCE = 256  # images in full size in memory together, of a generator that cannot make them small


@runtime_checkable
class LoadsLater(Protocol):
    """A captioner or generator whose weights are loaded when they are first needed, or before, if it is told to."""

    def load(self) -> None:
        """Load the weights, unless they are loaded already."""
        ...


@runtime_checkable
class SizedGenerator(Protocol):
    """A generator that brings its images to a size as it makes them, so that large ones never lie in memory together,
    and that may spend less on small ones."""

    def generate_sized(self, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int]) -> list[Image]:
        """What `Generator.generate` makes, each image exactly `size`, `(width, height)` in pixels."""
        ...


@runtime_checkable
class CutsPrompts(Protocol):
    """A generator that reads only the beginning of a long prompt."""

    def cut_prompts(self, prompts: Sequence[str]) -> int:
        """How many of the prompts are longer than the text encoder has room for."""
        ...


@runtime_checkable
class TakesPrefix(Protocol):
    """A captioner that can be told how captions of a stream begin."""

    def with_prefix(self, prefix: str) -> Captioner:
        """The captioner with that prefix, such as "a handwritten digit {class_name}"; itself if it takes none."""
        ...


@runtime_checkable
class HasFeatures(Protocol):
    """A captioner that says in numbers, too, what an image shows."""

    def features(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """A row for each image, `(n, number of features)`."""
        ...


@runtime_checkable
class HasLikelihoods(Protocol):
    """A captioner that says how likely it finds a text of an image."""

    def log_likelihoods(self, images: Sequence[Image], texts: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        """For each image, log p(text | image) of each of its texts, `texts[i]`: the sum over the text's tokens."""
        ...


@runtime_checkable
class SuggestsView(Protocol):
    """A generator that says what a router had best be shown that learns from its images."""

    router_view: RouterView


@runtime_checkable
class Autoencodes(Protocol):
    """A generator whose images come out of an autoencoder that can be asked for what it makes of any image."""

    def autoencode(self, images: torch.Tensor) -> torch.Tensor:
        """Images `(n, 3, h, w)`, values in [0, 1], encoded and decoded; of the same shape and range."""
        ...


def generate_at(
    generator: Generator, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int] | None
) -> list[Image]:
    """Images of the prompts in a size, by a `SizedGenerator` or by any other, whose images are then resized (Lanczos)
    lot by lot.

    **Arguments:**

    - size: `(width, height)` in pixels. None: the generator's own.

    What is resized is checked before; see `checked_images`, which checks whatever comes.
    """
    if size is None:
        return generator.generate(prompts, seeds)
    if isinstance(generator, SizedGenerator):
        return generator.generate_sized(prompts, seeds, size)
    source = f"{type(generator).__name__}.generate"
    images: list[Image] = []
    for start in range(0, len(prompts), _AT_ONCE):
        lot = slice(start, start + _AT_ONCE)
        made = generator.generate(prompts[lot], seeds[lot])
        images += [to_size(image, size) for image in rgb_images(source, made, len(prompts[lot]))]
    return images


def offer_abilities_of(part: Any, wrapper: Any) -> None:
    """Give `wrapper` what is named here that `part` has and it has not.

    They are attributes of its own: from Python 3.12 on, `isinstance` does not ask `__getattr__` for them.
    """
    abilities = ("load", "generate_sized", "cut_prompts", "features", "log_likelihoods", "autoencode", "router_view")
    for name in abilities:
        if hasattr(part, name) and not hasattr(type(wrapper), name):
            setattr(wrapper, name, getattr(part, name))
