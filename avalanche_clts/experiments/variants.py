"""The questions of `ablate`: CLTS with one thing changed, for each thing that is worth a question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .settings import Settings


@dataclass(frozen=True)
class Variant:
    """CLTS with something changed.

    **Arguments:**

    - label: what is different, for table and figure.
    - change: of the settings.
    - x: where the variant stands on the figure's axis. None: by its label.
    - stream: options of the stream that are different.
    - strategy: in the place of CLTS.
    """

    label: str
    change: Callable[[Settings], Settings] = lambda settings: settings
    x: float | None = None
    stream: str = ""
    strategy: str = "clts"


@dataclass(frozen=True)
class Ablation:
    """A question, and the variants that answer it.

    **Arguments:**

    - x_label: of the figure's axis, where variants have an x. Bytes of the captions are measured, not given.
    """

    title: str
    variants: Sequence[Variant]
    x_label: str = ""


def _set(**values: Any) -> Callable[[Settings], Settings]:
    return lambda settings: replace(settings, **values)


def _clts(**values: Any) -> Callable[[Settings], Settings]:
    """With other arguments of `CLTS`."""
    return lambda settings: replace(settings, tuned=settings.tuned | {"clts": settings.tuned.get("clts", {}) | values})


def _pair(captioner: dict[str, Any] | None = None, generator: dict[str, Any] | None = None) -> Callable[..., Settings]:
    """With other attributes of the pair's parts."""
    return lambda settings: replace(
        settings, captioner=settings.captioner | (captioner or {}), generator=settings.generator | (generator or {})
    )


ABLATIONS: dict[str, Ablation] = {
    "router-data": Ablation(
        "What the router learns from",
        [
            Variant("images regenerated from captions"),
            Variant("with real images of the current experience", _clts(router_data="mixed")),
            Variant("images regenerated from class names", _set(memory="labels")),
            Variant("stored real images, as many as captions", _set(memory="images")),
        ],
    ),
    "router-targets": Ablation(
        "What the router is taught",
        [
            Variant("the classes of each experience"),
            Variant("experiences (the paper)", _clts(router_targets="experiences")),
        ],
    ),
    "recombination": Ablation(
        "Whether captions lend each other their words",
        [
            Variant("every image after a caption's first in borrowed words"),
            Variant("each caption in its own words (the paper)", _clts(recombine=False)),
            Variant(
                "own words, and experiences as targets (the paper)",
                _clts(recombine=False, router_targets="experiences"),
            ),
        ],
    ),
    "routing": Ablation("Soft or hard routing", [Variant("soft"), Variant("hard", _set(routing="hard"))]),
    "captions": Ablation(
        "Captions per class",
        [Variant(str(n), _set(captions_per_class=n), x=n) for n in (1, 2, 5, 10, 20, 50)],
        "bytes of all captions, compressed",
    ),
    "replay-size": Ablation(
        "Images regenerated after each experience",
        [Variant(str(n), _clts(replay_size=n), x=n) for n in (100, 200, 500, 1000, 2000)],
        "replay_size",
    ),
    "guidance": Ablation(
        "Guidance scale",
        [Variant(str(g), _pair(generator={"guidance_scale": g}), x=g) for g in (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.5)],
        "guidance scale",
    ),
    "steps": Ablation(
        "Sampling steps",
        [Variant(str(n), _pair(generator={"steps": n}), x=n) for n in (1, 2, 3, 4, 6, 10, 20)],
        "sampling steps",
    ),
    "decoder": Ablation(
        "How latents become pixels",
        [
            Variant("the autoencoder", _pair(generator={"decoder": "autoencoder"})),
            Variant("a linear map, at the latents' size", _pair(generator={"decoder": "linear"})),
        ],
    ),
    "selection": Ablation(
        "Which images are captioned",
        [Variant("random"), Variant("diverse (k-means on BLIP's features)", _clts(selection="diverse"))],
    ),
    "filter": Ablation(
        "Which regenerated images the router sees",
        [Variant("all"), Variant("those that their own head recognises", _clts(keep="recognised"))],
    ),
    "experiences": Ablation(
        "Number of experiences",
        [Variant(str(n), x=n, stream=f"experiences={n}") for n in (2, 4, 5, 10, 20)],
        "experiences",
    ),
    "caption-length": Ablation(
        "Length of a caption",
        [Variant(str(n), _pair(captioner={"max_new_tokens": n}), x=n) for n in (3, 5, 7, 9, 13)],
        "bytes of all captions, compressed",
    ),
    "synthetic-data": Ablation(
        "Regenerated images as training data: one classifier, everything at once",
        [
            Variant("real images", strategy="joint"),
            Variant("regenerated images", strategy="joint-synthetic"),
            Variant("both", strategy="joint-mixed"),
        ],
    ),
    "evidence": Ablation(
        "What picks the head",
        [
            Variant("the router"),
            Variant("the heads' own confidence (no generator at all)", _set(evidence="heads")),
            Variant("both", _set(evidence="both")),
        ],
    ),
    "view": Ablation(
        "What the router is shown",
        [
            Variant("the input as it is"),
            Variant("the input after the generator's autoencoder", _set(view="autoencoded")),
            Variant("augmented images, while it trains", _set(view="augmented")),
        ],
    ),
}
