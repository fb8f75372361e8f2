"""What is held equal for all strategies of a comparison, and what each was tuned to."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Chosen by benchmarks/search.py on seeds that no comparison reports; the search and its outcome are in
# benchmarks/results/search-digits.json.
_TUNED = Path(__file__).parent / "hyperparameters.json"


@dataclass(frozen=True)
class Settings:
    """Of one comparison.

    **Arguments:**

    - train_epochs, train_mb_size, learning_rate: of every strategy (Adam).
    - captions_per_class: captions that CLTS keeps of each class of each experience.
    - tuned: hyper-parameters by strategy.
    """

    train_epochs: int = 10
    train_mb_size: int = 32
    eval_mb_size: int = 256
    learning_rate: float = 3e-3
    captions_per_class: int = 20
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)


def default_settings(stream: str) -> Settings:
    """The settings of `clts compare` on `stream`, with the recorded hyper-parameters."""
    return Settings(tuned=json.loads(_TUNED.read_text(encoding="utf-8"))[stream])
