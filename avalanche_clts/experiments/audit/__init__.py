"""What a finished comparison gives away of the images that it learnt from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..._support.console import bar, begin
from ..._support.files import write_text
from ...checkpoint import load_checkpoint
from ...footprint import caption_buffers
from ...images.avalanche import raw_images
from ...images.formats import to_pil
from ...memory.buffer import CaptionBuffer
from ...memory.origins import names_in_words
from ...pair.captioners import LabelCaptioner
from ...pair.loading import Pair
from ...streams.named import parse_stream
from ..config import recorded_experiment
from ..experiment import Conditions
from ..runs.execution import Task
from ..runs.folder import ResultsFolder
from ..runs.results import read_runs
from ..runs.runner import build
from .membership import area, buffer_scores, caption_scores, head_scores, router_scores
from .pixels import nearest, pixels_of
from .search import RealImages, search

__all__ = ["audit", "format_audit"]

_CLOSE = 0.2  # of the median distance between a real image and the nearest other one: nearer is the same image
_STRATEGY = "clts"
_EXAMPLES = "samples-"
_BUFFER = "the same images in a replay buffer"


def audit(folder: Path, *, data_root: Path | None = None, device: str = "cpu", command: str = "") -> dict[str, Any]:
    """Look for the stream's images in every file of a comparison, and try to tell what it was trained on.

    Writes `audit.json` to `folder` and returns its content:

    - files_with_real_images: how many each such file holds, by name; the bytes are searched, and every picture that a
        file contains is compared with every real image.
    - distances: root mean square difference of pixels in [0, 1] to the nearest training image, for regenerated images
        and, to judge it by, for test images and for training images (to the nearest other one).
    - membership: area under the ROC curve of attacks that tell images that were learnt from, from others; see
        `membership`. For the stored captions, the router and the heads of CLTS, and for a replay buffer that had stored
        the captioned images instead.

    The latter two need the trained CLTS of one seed, which `clts compare` keeps.

    **Arguments:**

    - folder: the `out` of `compare`.
    - data_root: as in `compare`.
    - device: where the pair regenerates images.

    Raises `FileNotFoundError` if `folder` holds no comparison.
    """
    document = read_runs(folder)
    experiment = recorded_experiment(document)
    stream = parse_stream(experiment.stream, data_root)
    here = replace(experiment, device=device)
    agent, benchmark = build(here, _STRATEGY, 0, stream=stream, pair=here.load_pair())
    train = [raw for e in benchmark.train_stream for raw in _images(e)]
    test = [raw for e in benchmark.test_stream for raw in _images(e)]
    among_real = nearest(pixels_of(train), pixels_of(train), skip_self=True)
    outcome: dict[str, Any] = {
        "stream": stream.name,
        "command": command,
        "images_searched_for": len(train) + len(test),
        "files_with_real_images": search(folder, RealImages(train + test, _CLOSE * float(np.median(among_real)))),
    }
    others = (document.get(name, nothing) for name, nothing in (("backbones", {}), ("class_names", ())))
    conditions = Conditions(document["pair"]["identity"], document["versions"], *others)
    kept = ResultsFolder(folder, conditions).kept(Task(experiment, _STRATEGY, 0, stream))
    if kept.exists():
        load_checkpoint(agent, kept)
        (buffer,) = caption_buffers(agent)
        regenerated = [
            to_pil(buffer.origins[made.prompt.caption.experience].format.restore(made.image))
            for made in buffer.regenerate()
        ]
        outcome["distances"] = {
            "regenerated images": _spread(nearest(pixels_of(regenerated), pixels_of(train))),
            "test images": _spread(nearest(pixels_of(test), pixels_of(train))),
            "training images": _spread(among_real),
        }
        # The heads' attack asks for unseen images of each experience: CORe50 has one test set for all.
        if len(benchmark.train_stream) == len(benchmark.test_stream):
            outcome["membership"] = _membership(agent, benchmark, buffer)
    write_text(folder / "audit.json", json.dumps(outcome, indent=1) + "\n")
    return outcome


def format_audit(outcome: dict[str, Any]) -> str:
    """The outcome as text."""
    files = outcome["files_with_real_images"]
    lines = [f"{outcome['images_searched_for']} real images of {outcome['stream']} searched for in every file:"]
    lines += [f"  {name}: {count}" for name, count in files.items()] or ["  none is in any of them"]
    if any(name.startswith(_EXAMPLES) for name in files):
        lines.append(
            "  (the report's examples, and the page that shows them; compare --no-real-images leaves them out)"
        )
    if "distances" not in outcome:
        return "\n".join([*lines, "", "no trained clts is kept in this folder; the rest is not measured"])
    lines += ["", "distance to the nearest training image (RMS of pixels in [0, 1]):", f"{'':22}   1st %   median"]
    lines += [f"  {name:20}{d['first_percentile']:8.3f} {d['median']:8.3f}" for name, d in outcome["distances"].items()]
    if "membership" not in outcome:
        return "\n".join([*lines, "", "the test stream is not divided like the training stream: no attack is made"])
    lines += ["", "can it be told who was learnt from? (area under the ROC curve; 0.5 is guessing)"]
    lines += [f"  {name:44}{value:6.3f}" for name, value in outcome["membership"].items()]
    return "\n".join(lines)


def _images(experience: Any) -> list[Image.Image]:
    return raw_images(experience.dataset, range(len(experience.dataset)))


def _spread(distances: np.ndarray[Any, Any]) -> dict[str, float]:
    return {"first_percentile": float(np.percentile(distances, 1)), "median": float(np.median(distances))}


def _membership(agent: Any, benchmark: Any, buffer: CaptionBuffer) -> dict[str, float]:
    model = agent.model.eval()
    # The captioned images are not written down anywhere; whoever runs the stream again with the same seed finds them.
    chooser = CaptionBuffer(
        pair=Pair(LabelCaptioner(), buffer.pair.generator),
        captions_per_class=buffer.memory.captions_per_class,
        class_names=buffer.class_names,
        seed=buffer.first_seed,
    )
    scores: dict[str, tuple[list[Any], list[Any]]] = {
        name: ([], []) for name in ("captions", "router", "heads", _BUFFER)
    }
    pairs = list(zip(benchmark.train_stream, benchmark.test_stream, strict=True))
    begin(f"membership attacks on {len(pairs)} experiences")
    for t, (experience, unseen) in enumerate(bar(pairs, desc="attacks", leave=False)):
        chosen = chooser.choose(experience)
        chooser.post_adapt(None, experience)
        rest = sorted(set(range(len(experience.dataset))) - set(chosen))
        groups = [(chosen, 0), (rest, 1)]
        stored = raw_images(experience.dataset, chosen)
        names = buffer.class_names or names_in_words(experience.dataset)
        for indices, other in groups:
            if not indices:  # all images of the experience were captioned
                continue
            images = raw_images(experience.dataset, indices)
            targets = [int(experience.dataset.targets[i]) for i in indices]
            known = None if names is None else [names[target] for target in targets]
            texts = buffer.pair.captioner.caption(images, known)
            scores["captions"][other].append(caption_scores(texts, targets, list(buffer.memory)))
            data = experience.dataset.eval().subset(indices)
            scores["router"][other].append(router_scores(model, data, t, agent.device))
            scores[_BUFFER][other].append(buffer_scores(images, stored))
        for data, other in ((experience.dataset.eval(), 0), (unseen.dataset.eval(), 1)):
            scores["heads"][other].append(head_scores(model, data, t, agent.device))
    return {
        name: area(np.concatenate(members), np.concatenate(others))
        for name, (members, others) in scores.items()
        if members and others
    }
