"""The networks that every strategy of a comparison shares."""

from __future__ import annotations

from torch import nn


def small_cnn(num_outputs: int, *, channels: int, side: int) -> nn.Sequential:
    """Two convolutions and a linear layer, for small images.

    **Arguments:**

    - num_outputs: classes.
    - channels, side: of the square images, `(n, channels, side, side)`; side in pixels, divisible by 4.
    """
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (side // 4) ** 2, num_outputs),
    )
