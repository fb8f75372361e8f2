"""DER++ whose memory is augmented as the stream is, where anything is, and replayed however little it holds."""

from __future__ import annotations

from typing import Any

from avalanche.training.supervised import DER

from ..rows.shared import Augmentation


class WholeMemoryDER(DER):
    """Avalanche's adds its memory to the batch after plugins were asked, which leaves those images as they are; and it
    replays nothing, and says nothing, where its memory holds fewer images than a batch of them takes."""

    batch_size_mem: int

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._most_of_memory = self.batch_size_mem

    def _before_training_exp(self, **kwargs: Any) -> None:
        self.batch_size_mem = max(1, min(self._most_of_memory, len(self.storage_policy.buffer)))
        super()._before_training_exp(**kwargs)

    def _before_forward(self, **kwargs: Any) -> None:
        new = len(self.mb_x)
        super()._before_forward(**kwargs)
        for plugin in self.plugins:
            if isinstance(plugin, Augmentation):
                plugin.augment_first(len(self.mb_x) - new, self)
