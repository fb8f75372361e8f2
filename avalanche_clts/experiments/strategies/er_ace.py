"""ER-ACE that replays from its memory however little that holds."""

from __future__ import annotations

from itertools import cycle
from typing import Any

from avalanche.training.supervised import ER_ACE
from torch.utils.data import DataLoader


class WholeMemoryERACE(ER_ACE):
    """Avalanche's replays nothing, and says nothing, where its memory holds fewer images than a batch of them takes."""

    replay_loader: Any

    def _before_training_exp(self, **kwargs: Any) -> None:
        super()._before_training_exp(**kwargs)
        memory = self.storage_policy.buffer
        if self.replay_loader is None and len(memory) and self.experience.current_experience > 0:
            self.replay_loader = cycle(DataLoader(memory, batch_size=len(memory), shuffle=True))
