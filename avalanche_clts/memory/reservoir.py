"""Which samples of a class to keep, as they come in parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def fill(indices: Sequence[int], quota: int, kept: int, seen: int, generator: torch.Generator) -> dict[int, int]:
    """Reservoir sampling (Vitter, "Random Sampling with a Reservoir", ACM TOMS 1985): after every part, each sample so
    far is among the `quota` that are kept with the same probability.

    Returns the samples to keep now: an index by its slot. Slots from 0 on are those of samples kept before, which give
    way; negative ones are free.

    **Arguments:**

    - indices: of the new samples.
    - quota: slots in all.
    - kept, seen: samples kept of earlier parts, and samples there were.
    - generator: of the choice.
    """
    shuffled = [int(indices[i]) for i in torch.randperm(len(indices), generator=generator).tolist()]
    free = max(0, quota - kept)
    chosen = {-1 - position: index for position, index in enumerate(shuffled[:free])}
    if seen == 0:
        return chosen  # of a single part, the first of the shuffled are a fair choice already
    slots = [*range(kept), *chosen][:quota]
    for position, index in enumerate(shuffled[free:], seen + min(free, len(shuffled))):
        drawn = int(torch.randint(position + 1, (), generator=generator))
        if drawn < len(slots):
            chosen[slots[drawn]] = index
    return chosen
