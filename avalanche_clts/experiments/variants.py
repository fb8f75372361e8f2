"""The questions of `ablate`: CLTS with one thing changed, for each thing that is worth a question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .experiment import Experiment


@dataclass(frozen=True)
class Variant:
    """CLTS with something changed.

    **Arguments:**

    - label: what is different, for table and figure.
    - change: of the experiment.
    - x: where the variant stands on the figure's axis. None: by its label.
    - stream: options of the stream that are different.
    - strategy: in the place of CLTS.
    """

    label: str
    change: Callable[[Experiment], Experiment] = lambda experiment: experiment
    x: float | None = None
    stream: str = ""
    strategy: str = "clts"

    def changed(self, experiment: Experiment) -> Experiment:
        """The experiment with what is different."""
        changed = self.change(experiment)
        if not self.stream:
            return changed
        return replace(changed, stream=f"{changed.stream}{',' if ':' in changed.stream else ':'}{self.stream}")


@dataclass(frozen=True)
class Ablation:
    """A question, and the variants that answer it.

    **Arguments:**

    - x_label: of the figure's axis, where variants have an x. Bytes of the captions are measured, not given.
    """

    title: str
    variants: Sequence[Variant]
    x_label: str = ""


def _set(**values: Any) -> Callable[[Experiment], Experiment]:
    return lambda experiment: replace(experiment, **values)


def _clts(**values: Any) -> Callable[[Experiment], Experiment]:
    """With other hyper-parameters of CLTS."""
    return lambda experiment: replace(
        experiment,
        hyperparameters=experiment.hyperparameters | {"clts": experiment.hyperparameters.get("clts", {}) | values},
    )


def _captioner(**values: Any) -> Callable[[Experiment], Experiment]:
    """With other arguments of the pair's captioner."""
    return lambda experiment: replace(experiment, captioner=experiment.captioner | values)


def _generator(**values: Any) -> Callable[[Experiment], Experiment]:
    """With other arguments of the pair's generator."""
    return lambda experiment: replace(experiment, generator=experiment.generator | values)


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
        [Variant(str(g), _generator(guidance_scale=g), x=g) for g in (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.5)],
        "guidance scale",
    ),
    "steps": Ablation(
        "Sampling steps",
        [Variant(str(n), _generator(steps=n), x=n) for n in (1, 2, 3, 4, 6, 10, 20)],
        "sampling steps",
    ),
    "decoder": Ablation(
        "How latents become pixels",
        [
            Variant("the autoencoder", _generator(decoder="autoencoder")),
            Variant("a linear map, at the latents' size", _generator(decoder="linear")),
        ],
    ),
    "experiences": Ablation(
        "Number of experiences",
        [Variant(str(n), x=n, stream=f"experiences={n}") for n in (2, 4, 5, 10, 20)],
        "experiences",
    ),
    "caption-length": Ablation(
        "Length of a caption",
        [Variant(str(n), _captioner(max_new_tokens=n), x=n) for n in (3, 5, 7, 9, 13)],
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
    "view": Ablation(
        "What the router is shown",
        [
            Variant("the input as it is", _set(router_view="input")),
            Variant("the input after the generator's autoencoder", _set(router_view="autoencoded")),
        ],
    ),
}
