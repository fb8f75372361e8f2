"""What each part of CLTS is worth: the strategy with one thing changed at a time, on one stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..images import class_names
from ..named_streams import Stream, parse_stream
from ..pairs import Pair, load_pair, pair_identity
from ..serialization import write_text
from .execution import Task, execute
from .lock import only_one
from .results import ResultsFolder
from .runner import versions
from .settings import Settings, default_settings
from .strategies import Results


@dataclass(frozen=True)
class Variant:
    """CLTS with something changed.

    **Arguments:**

    - label: what is different, for table and figure.
    - change: of the settings.
    - x: where the variant stands on the figure's axis. None: by its label.
    - stream: options of the stream that are different.
    - strategy: in the place of CLTS.
    - default: whether this is CLTS as it comes.
    """

    label: str
    change: Callable[[Settings], Settings] = lambda settings: settings
    x: float | None = None
    stream: str = ""
    strategy: str = "clts"
    default: bool = False


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


def _pair(captioner: dict[str, Any] | None = None, generator: dict[str, Any] | None = None) -> Any:
    return _set(captioner=captioner or {}, generator=generator or {})


def _as_it_comes(label: str, x: float | None = None) -> Variant:
    return Variant(label, x=x, default=True)


ABLATIONS: dict[str, Ablation] = {
    "router-data": Ablation(
        "What the router learns from",
        [
            _as_it_comes("images regenerated from captions"),
            Variant("with real images of the current experience", _clts(router_data="mixed")),
            Variant("images regenerated from class names", _set(memory="labels")),
            Variant("stored real images (the ceiling)", _set(memory="images")),
        ],
    ),
    "router-targets": Ablation(
        "What the router is taught",
        [
            _as_it_comes("the classes of each experience"),
            Variant("experiences (the paper)", _clts(router_targets="experiences")),
        ],
    ),
    "recombination": Ablation(
        "Whether captions lend each other their words",
        [
            _as_it_comes("every image after a caption's first in borrowed words"),
            Variant("each caption in its own words (the paper)", _clts(recombine=False)),
            Variant(
                "own words, and experiences as targets (the paper)",
                _clts(recombine=False, router_targets="experiences"),
            ),
        ],
    ),
    "routing": Ablation("Soft or hard routing", [_as_it_comes("soft"), Variant("hard", _set(routing="hard"))]),
    "captions": Ablation(
        "Captions per class",
        [Variant(str(n), _set(captions_per_class=n), x=n, default=n == 20) for n in (1, 2, 5, 10, 20, 50)],
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
        [_as_it_comes("random"), Variant("diverse (k-means on BLIP's features)", _clts(selection="diverse"))],
    ),
    "filter": Ablation(
        "Which regenerated images the router sees",
        [_as_it_comes("all"), Variant("those that their own head recognises", _clts(keep="recognised"))],
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
            _as_it_comes("the router"),
            Variant("the heads' own confidence (no generator at all)", _set(evidence="heads")),
            Variant("both", _set(evidence="both")),
        ],
    ),
    "view": Ablation(
        "What the router is shown",
        [
            _as_it_comes("the input as it is"),
            Variant("the input after the generator's autoencoder", _set(view="autoencoded")),
            Variant("augmented images, while it trains", _set(view="augmented")),
        ],
    ),
}


def ablate(
    *,
    stream: str = "shapes",
    only: Sequence[str] | None = None,
    seeds: int = 5,
    out: Path = Path("ablations"),
    device: str = "cpu",
    pair: str = "embedded",
    data_root: Path | None = None,
    settings: Settings | None = None,
    jobs: int = 1,
    command: str = "",
) -> dict[str, Any]:
    """Run CLTS with one thing changed at a time, and write `ablations.json` to `out`.

    Runs that `out` already holds are not computed again, and a variant that stands in several ablations (CLTS as it
    comes, above all) is run once.

    **Arguments:** as in `compare`, and

    - only: names from `ABLATIONS`. None: all of them.
    """
    unknown = [name for name in only or () if name not in ABLATIONS]
    if unknown:
        raise ValueError(f"only has {', '.join(unknown)}; known ablations: {', '.join(ABLATIONS)}")
    chosen = {name: ABLATIONS[name] for name in only or ABLATIONS}
    settings = settings or default_settings(parse_stream(stream, data_root))
    loaded = load_pair(pair, device=device)
    shared = {"pair": pair_identity(loaded), "device": device, "versions": versions()}
    folder = ResultsFolder(out, shared)
    wanted = {
        (name, variant.label, seed): _task(stream, variant, seed, settings, pair, data_root, folder)
        for name, ablation in chosen.items()
        for variant in ablation.variants
        for seed in range(seeds)
    }
    with only_one(out):
        results = _run({key: task for key, task in wanted.items() if task is not None}, folder, jobs)
    document = {
        "stream": stream,
        "class_names": _class_names(parse_stream(stream, data_root)),
        "seeds": seeds,
        "command": command,
        "versions": shared["versions"],
        "pair": shared["pair"],
        "settings": asdict(settings),
        "ablations": {
            name: {
                "title": ablation.title,
                "x_label": ablation.x_label,
                "variants": [
                    {
                        "label": variant.label,
                        "x": variant.x,
                        "default": variant.default or _samples_as_it_comes(variant, settings, loaded),
                        "runs": [_figures(results[name, variant.label, seed]) for seed in range(seeds)],
                    }
                    for variant in ablation.variants
                    if (name, variant.label, 0) in results
                ],
            }
            for name, ablation in chosen.items()
        },
    }
    write_text(out / "ablations.json", json.dumps(document, indent=1))
    return document


def _samples_as_it_comes(variant: Variant, settings: Settings, pair: Pair) -> bool:
    """Whether what a variant sets of the generator is what this pair has set."""
    options = variant.change(settings).generator
    return bool(options) and all(getattr(pair.generator, name) == value for name, value in options.items())


def _class_names(stream: Stream) -> list[str]:
    benchmark = stream.build(0)
    names = class_names(benchmark.train_stream[0].dataset)
    return names or [str(label) for label in range(benchmark.n_classes)]


def _figures(results: Results) -> Results:
    """A run without its matrices, which nothing shows, and without its seconds: it may have generated no image."""
    left_out = ("accuracy_matrix", "router_confusion", "seconds")
    return {name: value for name, value in results.items() if name not in left_out}


def _task(
    stream: str,
    variant: Variant,
    seed: int,
    settings: Settings,
    pair: str,
    data_root: Path | None,
    folder: ResultsFolder,
) -> Task | None:
    """A variant's run; None where the stream has no such form."""
    name = f"{stream}{',' if ':' in stream else ':'}{variant.stream}" if variant.stream else stream
    parsed: Stream = parse_stream(name, data_root)
    if variant.stream:
        try:
            parsed.build(seed)
        except ValueError:
            return None
    changed = variant.change(settings)
    return Task(parsed, variant.strategy, seed, changed, pair, folder.conditions["device"], images=folder.images)


def _run(wanted: dict[tuple[str, str, int], Task], folder: ResultsFolder, jobs: int) -> dict[Any, Results]:
    """The results of every run, each computed once however often it is wanted."""
    missing = {file: task for task in wanted.values() if not (file := folder.file(task)).exists()}
    with tqdm(total=len(missing), unit="run") as bar:
        tasks = [folder.prepared(task) for task in missing.values()]
        for task, outcome in execute(tasks, jobs=jobs, progress=bar.set_description):
            folder.save(task, outcome)
            bar.update()
    results: dict[Any, Results] = {}
    for key, task in wanted.items():
        found = folder.load(task)
        assert found is not None
        results[key] = found
    return results
