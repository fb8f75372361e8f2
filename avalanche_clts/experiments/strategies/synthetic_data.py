"""How good are regenerated images as training data? Joint training on them, alone or beside real ones."""

from __future__ import annotations

from typing import Any

from avalanche.benchmarks.utils import concat_datasets
from avalanche.training.supervised import JointTraining

from ...images.avalanche import experiences_in_training
from ...memory.buffer import CaptionBuffer


class SyntheticJointTraining(JointTraining):
    """Joint training on images regenerated from captions of the whole stream, as many as the stream has.

    **Arguments:** those of `JointTraining`, and

    - buffer: writes the captions and turns them back into images.
    - mixed: whether the real images are trained on as well.
    """

    adapted_dataset: Any

    def __init__(self, *, buffer: CaptionBuffer, mixed: bool, **common: Any) -> None:
        super().__init__(**common)
        self.buffer = buffer
        self.mixed = mixed

    def kept_bytes(self) -> dict[str, int]:
        """What it keeps beside the network: captions."""
        return {"captions": self.buffer.memory.nbytes}

    def train_dataset_adaptation(self, **kwargs: Any) -> None:
        """Put regenerated images in the place of the real ones, or beside them."""
        super().train_dataset_adaptation(**kwargs)
        real: Any = self.adapted_dataset
        self.buffer.replay_size = len(real)
        for experience in experiences_in_training(self):
            self.buffer.post_adapt(self, experience)
        synthetic = self.buffer.buffer.train()
        self.adapted_dataset = concat_datasets([real, synthetic]) if self.mixed else synthetic
