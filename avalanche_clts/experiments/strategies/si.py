"""SI (Zenke et al., ICML 2017), with weights that are copied where Avalanche's plugin keeps views."""

from __future__ import annotations

from typing import Any

from avalanche.training.plugins import SynapticIntelligencePlugin


class CopyingSynapticIntelligence(SynapticIntelligencePlugin):
    """Avalanche's plugin, which on the CPU records views of the live weights for the weights before a step.

    Then nothing ever seems to move, every importance is 0, and SI is plain fine-tuning.

    **Arguments:** those of `SynapticIntelligencePlugin`.
    """

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Copy the weights that the experience starts from."""
        super().before_training_exp(strategy, **kwargs)
        _copy(self.ewc_data[0])

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Copy the weights before a step."""
        super().before_training_iteration(strategy, **kwargs)
        _copy(self.syn_data["old_theta"])

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Copy the weights that are to be held."""
        super().after_training_exp(strategy, **kwargs)
        _copy(self.ewc_data[0])


def _copy(weights: dict[str, Any]) -> None:
    for recorded in weights.values():
        recorded.data = recorded.data.clone()
