"""Expert Gate (Aljundi et al., CVPR 2017) on the network of a comparison.

Avalanche's own class runs with ImageNet weights of AlexNet only: it asks torchvision for "AlexNet_Weights.NONE" where
none are wanted, which torchvision does not know, and AlexNet takes no image below 63 pixels a side. Here the experts
are heads of a `RoutedModel` and the gate stands in the router's place: an input goes to the expert whose autoencoder
reconstructs it best. What the paper does with related tasks (starting an expert from, or distilling, the most related
one) is left out, as the gate itself is what is compared.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...models import RoutedModel
from ...routers import Router


class ReconstructionGate(Router):
    """One autoencoder for each experience: the smaller its reconstruction error, the likelier its head.

    **Arguments:**

    - num_inputs: numbers in an input.
    - latent_dim: width of each autoencoder's bottleneck.
    - temperature: of the softmax over errors.
    """

    def __init__(self, num_inputs: int, *, latent_dim: int = 100, temperature: float = 2.0) -> None:
        super().__init__()
        self.template = (
            nn.Sequential(nn.Linear(num_inputs, latent_dim), nn.ReLU(), nn.Linear(latent_dim, num_inputs)),
        )
        self.temperature = temperature
        self.autoencoders = nn.ModuleList()

    @property
    def num_heads(self) -> int:
        """How many experiences the gate tells apart."""
        return len(self.autoencoders)

    def add(self) -> nn.Module:
        """Start the autoencoder of a new experience from fresh weights."""
        autoencoder = copy.deepcopy(self.template[0])
        for module in autoencoder.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        self.autoencoders.append(autoencoder)
        return autoencoder

    def log_probabilities(self, features: Tensor) -> Tensor:
        """log p(head), `(n, num_heads)`."""
        x = features.flatten(1)
        errors = [(autoencoder(x) - x).square().sum(1) for autoencoder in self.autoencoders]
        return (-torch.stack(errors, dim=1) / self.temperature).log_softmax(1)


class ExpertGatePlugin(SupervisedPlugin):
    """After each experience: train its autoencoder on its real images.

    **Arguments:**

    - epochs: passes over the experience's images.
    - learning_rate: of Adam.
    """

    def __init__(self, *, epochs: int, learning_rate: float = 1e-3) -> None:
        super().__init__()
        self.epochs = epochs
        self.learning_rate = learning_rate

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Train the gate's newest autoencoder."""
        model: RoutedModel = strategy.model
        assert isinstance(model.router, ReconstructionGate)
        autoencoder = model.router.add().to(strategy.device)
        optimizer = torch.optim.Adam(autoencoder.parameters(), lr=self.learning_rate)
        loader: DataLoader[Any] = DataLoader(
            strategy.experience.dataset.train(), batch_size=strategy.train_mb_size, shuffle=True
        )
        for _ in range(self.epochs):
            for x, *_ in loader:
                x = model.features(x.to(strategy.device)).flatten(1)
                loss = (autoencoder(x) - x).square().sum(1).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        autoencoder.requires_grad_(False)
