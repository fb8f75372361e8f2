"""DER++ whose memory is augmented as the stream is, where anything is."""

from __future__ import annotations

from typing import Any

from avalanche.training.supervised import DER

from ..rows.shared import Augmentation


class AugmentingDER(DER):
    """Avalanche's adds its memory to the batch after plugins were asked, which leaves those images as they are."""

    def _before_forward(self, **kwargs: Any) -> None:
        new = len(self.mb_x)
        super()._before_forward(**kwargs)
        for plugin in self.plugins:
            if isinstance(plugin, Augmentation):
                plugin.augment_first(len(self.mb_x) - new, self)
