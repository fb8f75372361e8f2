"""Strategies of Avalanche's that need more than a line to be put on the network and the stream of a comparison."""

from __future__ import annotations

from typing import Any

from avalanche.models.generator import MlpVAE, VAE_loss
from avalanche.training.plugins import EvaluationPlugin, GenerativeReplayPlugin, SynapticIntelligencePlugin
from avalanche.training.supervised import GenerativeReplay, ICaRL, Naive, SynapticIntelligence, VAETraining
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.optim import Adam

from ...models import RoutedModel
from ...networks import split_network
from .expert_gate import ExpertGatePlugin, ReconstructionGate


def icarl(common: dict[str, Any], *, mem_size: int) -> SupervisedTemplate:
    """iCaRL (Rebuffi et al., CVPR 2017), which has a loss of its own and takes the network in two parts."""
    features, classifier = split_network(common["model"])
    own = {name: value for name, value in common.items() if name not in ("model", "criterion")}
    return ICaRL(
        feature_extractor=features,
        classifier=classifier,
        memory_size=mem_size,
        fixed_memory=True,
        buffer_transform=None,
        **own,
    )


def unfit_for_icarl(benchmark: Any) -> str | None:
    """Why iCaRL cannot run on a benchmark, or None."""
    if hasattr(benchmark, "n_classes_per_exp"):
        return None
    return "iCaRL gives each class to one experience, and here classes come again"


class _VAETraining(VAETraining):
    """Without a batch of one, which the VAE's batch normalisation refuses."""

    def make_train_dataloader(self, **kwargs: Any) -> None:
        super().make_train_dataloader(**{**kwargs, "drop_last": True})


class _ToRange(nn.Module):
    """[0, 1] to the stream's range of values."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return self.low + x * (self.high - self.low)


def generative_replay(
    common: dict[str, Any],
    *,
    shape: tuple[int, ...],
    value_range: tuple[float, float],
    latent_dim: int,
    generator_epochs: int,
    learning_rate: float = 1e-3,
) -> SupervisedTemplate:
    """Deep generative replay (Shin et al., NeurIPS 2017) with Avalanche's VAE, at the stream's shape and values.

    As Avalanche's default, which is made for 28x28 MNIST: its decoder ends in MNIST's normalisation.
    """
    generator = MlpVAE(shape, nhid=latent_dim, device=common["device"])
    generator.decoder.invTrans = _ToRange(*value_range)
    training = _VAETraining(
        model=generator,
        optimizer=Adam(generator.parameters(), lr=learning_rate),
        criterion=VAE_loss,
        train_mb_size=common["train_mb_size"],
        train_epochs=generator_epochs,
        device=common["device"],
        plugins=[GenerativeReplayPlugin()],
        evaluator=EvaluationPlugin(),
    )
    return GenerativeReplay(**common, generator_strategy=training)


def synaptic_intelligence(common: dict[str, Any], *, si_lambda: float) -> SupervisedTemplate:
    """SI (Zenke et al., ICML 2017). On the CPU, Avalanche's plugin records views of the live weights for the weights
    before a step: nothing ever seems to move, every importance is 0, and SI is plain fine-tuning. Here it copies them.
    """
    SynapticIntelligencePlugin.extract_weights = staticmethod(_copies_of_weights)
    return SynapticIntelligence(**common, si_lambda=si_lambda)


_views_of_weights = SynapticIntelligencePlugin.extract_weights


def _copies_of_weights(model: nn.Module, target: dict[str, Any], excluded_parameters: set[str]) -> None:
    _views_of_weights(model, target, excluded_parameters)
    for recorded in target.values():
        recorded.data = recorded.data.clone()


def expert_gate(
    common: dict[str, Any],
    *,
    head: nn.Module,
    backbone: nn.Module | None,
    num_inputs: int,
    latent_dim: int,
    epochs: int,
) -> SupervisedTemplate:
    """Experts behind autoencoders; see `expert_gate.py` for why not Avalanche's class."""
    gate = ReconstructionGate(num_inputs, latent_dim=latent_dim)
    model = RoutedModel(head=head, router=gate, backbone=backbone, routing="hard")
    optimizer = Adam(model.parameters(), lr=common["optimizer"].defaults["lr"])
    own = {name: value for name, value in common.items() if name not in ("model", "optimizer")}
    return Naive(model=model, optimizer=optimizer, plugins=[ExpertGatePlugin(epochs=epochs)], **own)
