"""How good are regenerated images as training data? Joint training on them, alone or beside real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from avalanche.benchmarks.utils import concat_datasets
from avalanche.training.supervised import JointTraining
from avalanche.training.templates import SupervisedTemplate

from ...images.avalanche import experiences_in_training
from ...memory.buffer import CaptionBuffer
from . import colours
from .row import Row, Setup


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


def synthetic(*, mixed: bool) -> Callable[[Setup], SupervisedTemplate]:
    """Builds joint training on regenerated images; `mixed`: on the real ones as well."""

    def build(setup: Setup) -> SupervisedTemplate:
        buffer = CaptionBuffer(pair=setup.pair, captions_per_class=setup.captions_per_class)
        return SyntheticJointTraining(**setup.single(), buffer=buffer, mixed=mixed)

    return build


ROWS = [
    Row(
        "joint-synthetic",
        "all data at once, regenerated from captions",
        synthetic(mixed=False),
        keeps="captions of the whole stream",
        colour=colours.ORANGE,
        line="--",
        marker="s",
        uses_pair=True,
        compared=False,
    ),
    Row(
        "joint-mixed",
        "all data at once, real and regenerated",
        synthetic(mixed=True),
        keeps="the whole stream, and captions of it",
        colour=colours.ORANGE,
        line=":",
        marker="^",
        uses_pair=True,
        compared=False,
    ),
]
