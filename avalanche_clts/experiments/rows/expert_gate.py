"""Expert Gate (Aljundi et al., CVPR 2017) on the network of a comparison.

Avalanche's own class runs with ImageNet weights of AlexNet only: it asks torchvision for "AlexNet_Weights.NONE" where
none are wanted, which torchvision does not know, and AlexNet takes no image below 63 pixels a side. Here the experts
are heads of a `RoutedModel` and the gate stands in the router's place: an input goes to the expert whose autoencoder
reconstructs it best. What the paper does with related tasks (starting an expert from, or distilling, the most related
one) is left out, as the gate itself is what is compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import colours
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def build(setup: Setup) -> SupervisedTemplate:
    """Experts behind autoencoders, which pick one of them."""
    from avalanche.training.supervised import Naive

    from ...models import RoutedModel
    from ..strategies.expert_gate import ExpertGatePlugin, ReconstructionGate

    options = {"latent_dim": 100, "epochs": setup.train_epochs, **setup.options}
    head = setup.network(setup.num_classes)
    gate = ReconstructionGate(setup.num_features, latent_dim=options["latent_dim"])
    model = RoutedModel(head=head, router=gate, backbone=setup.backbone, routing="hard")
    return Naive(**setup.common(model), plugins=[ExpertGatePlugin(epochs=options["epochs"])])


ROWS = [
    Row(
        "expert-gate",
        "task heads behind autoencoders: the best reconstruction picks the head",
        build,
        keeps="the heads, and an autoencoder for each",
        colour=colours.TEAL,
        line="--",
        marker="s",
        grid={"latent_dim": [20, 50, 100], "epochs": [10, 30]},
    )
]
