"""The networks that every strategy of a comparison shares.

Their names are read without loading torch: each function imports what it builds with.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from avalanche.benchmarks.utils import AvalancheDataset
    from torch import Tensor, nn

    from .images.formats import ImageFormat

Network = TypeVar("Network", bound="nn.Module")


def small_cnn(num_outputs: int, *, channels: int, size: tuple[int, int]) -> nn.Sequential:
    """Two convolutions and a linear layer, for small images.

    **Arguments:**

    - num_outputs: classes.
    - channels, size: of the images, `(n, channels, height, width)`; size is `(width, height)` in pixels.
    """
    from torch import nn

    return _channels_last(
        nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * (size[0] // 4) * (size[1] // 4), num_outputs),
        )
    )


def cnn(num_outputs: int, *, channels: int) -> nn.Sequential:
    """Three convolutions with batch normalisation and a linear layer, for images of 16 pixels a side and more."""
    from torch import nn

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]

    return _channels_last(
        nn.Sequential(
            *block(channels, 16),
            nn.MaxPool2d(2),
            *block(16, 32),
            nn.MaxPool2d(2),
            *block(32, 64),
            nn.AdaptiveMaxPool2d(4),
            nn.Flatten(),
            nn.Linear(64 * 16, num_outputs),
        )
    )


def mlp(num_outputs: int, *, num_features: int) -> nn.Sequential:
    """A hidden layer and a linear one, on features."""
    from torch import nn

    return nn.Sequential(nn.Linear(num_features, 256), nn.ReLU(), nn.Linear(256, num_outputs))


def linear(num_outputs: int, *, num_features: int) -> nn.Linear:
    """A linear layer, on features."""
    from torch import nn

    return nn.Linear(num_features, num_outputs)


def slim_resnet18(num_outputs: int) -> nn.Module:
    """The slim ResNet-18 of Lopez-Paz and Ranzato (2017), for 32x32 RGB images only."""
    from avalanche.models import SlimResNet18

    return _channels_last(SlimResNet18(num_outputs))


def _channels_last(network: Network) -> Network:
    """The network with the channels of a pixel side by side in memory: a CPU trains it 1.2 to 1.7 times as fast so
    (benchmarks/results/memory-format/)."""
    import torch

    return network.to(memory_format=torch.channels_last)


NETWORKS: dict[str, Callable[[ImageFormat], Callable[[int], nn.Module]]] = {
    "small-cnn": lambda format: partial(small_cnn, channels=format.channels, size=format.size),
    "cnn": lambda format: partial(cnn, channels=format.channels),
    "slim-resnet18": lambda format: slim_resnet18,
}
# On a backbone's features, given how many they are.
ON_FEATURES: dict[str, Callable[[int], Callable[[int], nn.Module]]] = {
    "linear": lambda num_features: partial(linear, num_features=num_features),
    "mlp": lambda num_features: partial(mlp, num_features=num_features),
}


def split_network(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The features and the classifier on top of them, of a network from `NETWORKS`; both share its weights."""
    from torch import nn

    if isinstance(network, nn.Sequential):
        return network[:-1], network[-1]
    classifier: nn.Module = network.linear  # type: ignore[assignment]
    network.linear = nn.Identity()
    return network, classifier


def require_fitting(argument: str, name: str | None, dataset: AvalancheDataset) -> None:
    """Raise `ValueError` if a network cannot take the images of a data set.

    **Arguments:**

    - argument: for the message.
    - name: as in `network_for`.
    """
    import torch

    from .images.avalanche import image_format

    x: Tensor = dataset.eval()[0][0][None]
    try:
        with torch.no_grad():
            network_for(image_format(dataset), name)(2).eval()(x)
    except RuntimeError:
        _, channels, height, width = x.shape
        images = f"images of {width}x{height} pixels and {channels} channels"
        if name is None:
            raise ValueError(f"stream has {images}, too small for a {argument}; bring larger ones") from None
        raise ValueError(
            f"{argument} is {name!r}, which cannot take {images}; "
            f"choose another: {', '.join(other for other in NETWORKS if other != name)}"
        ) from None


def network_for(format: ImageFormat, name: str | None = None) -> Callable[[int], nn.Module]:
    """What makes a network for images of `format`, given its number of outputs.

    **Arguments:**

    - name: a key of `NETWORKS`. None: "small-cnn" up to 28 pixels a side, "cnn" above.

    Raises `ValueError`, listing the known ones, for another name.
    """
    if name is not None and name not in NETWORKS:
        raise ValueError(f"network is {name!r}; known networks: {', '.join(NETWORKS)}")
    return NETWORKS[name or ("small-cnn" if max(format.size) <= 28 else "cnn")](format)
