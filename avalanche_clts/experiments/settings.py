"""What is held equal for all strategies of a comparison, and what each was tuned to."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..models import Evidence, Routing
from ..streams.named import STREAMS, Stream
from ..views import View

# Chosen by the search of `clts compare --tune` on a seed that no comparison reports.
_TUNED = Path(__file__).parent / "hyperparameters.json"
_TRAINING: dict[str, dict[str, Any]] = {
    "digits": {"train_epochs": 10, "train_mb_size": 32, "learning_rate": 3e-3},
    "shapes": {"train_epochs": 10, "train_mb_size": 32, "learning_rate": 2e-3},
}
_OTHERS = {"train_epochs": 10, "train_mb_size": 32, "learning_rate": 1e-3}
# What only strategies with a pair take notice of.
PAIR_SETTINGS = ("memory", "captioner", "generator", "routing", "evidence", "view", "router")
_LIKE = "shapes"  # whose hyper-parameters serve streams that have none of their own


@dataclass(frozen=True)
class Settings:
    """Of one comparison.

    **Arguments:**

    - train_epochs, train_mb_size, learning_rate: of every strategy (Adam).
    - network: of every strategy, a key of `NETWORKS`. None: by the size of the images.
    - router: network of CLTS's router, likewise. None: by the size of the images, whatever `network` is, since a router
        sees every image that is regenerated and its time is most of what CLTS costs.
    - captions_per_class: captions that CLTS keeps of each class of each experience.
    - memory: what CLTS keeps of an image: "captions"; "labels", its class name in a template; or "images", the image
        itself.
    - captioner, generator: attributes of the pair's parts to change, such as {"guidance_scale": 2.0}.
    - routing, evidence: of `RoutedModel`.
    - view: what the router is shown: "input"; "autoencoded", the input after the generator's autoencoder; or
        "augmented".
    - tuned: hyper-parameters by strategy.
    """

    train_epochs: int = 10
    train_mb_size: int = 32
    eval_mb_size: int = 256
    learning_rate: float = 3e-3
    network: str | None = None
    router: str | None = None
    captions_per_class: int = 20
    memory: Literal["captions", "labels", "images"] = "captions"
    captioner: dict[str, Any] = field(default_factory=dict)
    generator: dict[str, Any] = field(default_factory=dict)
    routing: Routing = "soft"
    evidence: Evidence = "router"
    view: View = "input"
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)


def default_settings(stream: Stream) -> Settings:
    """The settings of `clts compare` on `stream`, with the recorded hyper-parameters.

    Streams for which none were searched have those of `shapes`, or else of `digits`.
    """
    tuned = json.loads(_TUNED.read_text(encoding="utf-8"))
    return Settings(
        **_TRAINING.get(stream.kind, _OTHERS),
        network=STREAMS[stream.kind].network,
        tuned=next(tuned[kind] for kind in (stream.kind, _LIKE, "digits") if kind in tuned),
    )
