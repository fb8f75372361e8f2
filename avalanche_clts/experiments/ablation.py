"""What each part of CLTS is worth: the strategy with one thing changed at a time, on one stream."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from .._support.console import bar, tell
from .._support.files import read_object, write_text
from ..memory.origins import names_of_classes
from ..pair.loading import pair_identity
from ..streams.named import Stream, parse_stream
from .begin import require_fit, require_machine
from .config import keep
from .experiment import Conditions, Experiment
from .page.provenance import provenance
from .page.report import write_report
from .readiness import require_known, require_places
from .rows import Results
from .runs.backbones import backbone_identities
from .runs.execution import Task, execute
from .runs.folder import ResultsFolder
from .runs.lock import only_one
from .runs.results import ABLATIONS_FILE, ablations_to_csv
from .runs.runner import versions
from .told import introduction, origin_of_settings
from .tuning import found_before
from .variants import ABLATIONS, Variant


@dataclass(frozen=True)
class Planned:
    """A variant, ready to be run.

    **Arguments:**

    - ablation: name of the question that it answers.
    - experiment, stream: with what it changes.
    - default: whether it changes nothing, since what it sets is set so anyway.
    """

    ablation: str
    variant: Variant
    experiment: Experiment
    stream: Stream
    default: bool

    def task(self, seed: int, images: Path) -> Task:
        """Its run with one seed, which takes images from a folder, and leaves them there."""
        return Task(self.experiment, self.variant.strategy, seed, self.stream, images=images)


def ablate(
    experiment: Experiment,
    *,
    out: Path = Path("ablations"),
    data_root: Path | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
    image_cache: Path | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Run CLTS with one thing changed at a time, and write `ablations.json`, the same as CSV, the report and the
    experiment to `out`.

    Runs that `out` already holds are not computed again, and a variant that stands in several ablations (CLTS as it
    comes, above all) is run once. Ablations that `out` already holds, of the same experiment, stay in its
    `ablations.json`.

    **Arguments:** as in `compare`, but for image_cache. None: the runs share the images that are kept in `out`.

    Raises `ValueError` for an unknown ablation, an absent device, and what the experiment's pair does not take.
    """
    require_known(experiment)
    require_places(experiment, out, image_cache)
    require_machine(experiment, jobs, executor)
    stream = parse_stream(experiment.stream, data_root)
    benchmark = stream.build(0)
    pair = experiment.load_pair()
    experiment = experiment.shown(pair, benchmark)
    require_fit(experiment, benchmark, pair)
    class_names = names_of_classes(benchmark)
    conditions = Conditions(pair_identity(pair), versions(), backbone_identities(experiment, pair), class_names)
    planned = list(plan(experiment, stream, len(benchmark.train_stream), conditions.pair))
    if not planned:
        raise ValueError(f"none of the ablations asked for can be run on {experiment.stream} with {experiment.pair}")
    shared = {
        "stream": experiment.stream,
        "class_names": class_names,
        "seeds": experiment.seeds,
        "device": experiment.device,
        "versions": conditions.versions,
        "contents": stream.contents,
        "pair": conditions.pair,
        "settings": experiment.settings(),
    }
    for line in introduction(experiment, benchmark, strategies=["clts"]):
        tell(line)
    with only_one(out):
        kept = _kept(out / ABLATIONS_FILE)  # what is damaged is told before hours of runs
        done = partial(execute, jobs=jobs, executor=executor)
        results = _run(planned, experiment.seeds, ResultsFolder(out, conditions), done, image_cache)
        origin = origin_of_settings(experiment, ["clts"], found_before(out, stream))
        document = _beside_earlier(out / ABLATIONS_FILE, kept, shared, _answers(planned, results), command)
        document["hyperparameters_from"] = origin
        keep(replace(experiment, ablations=tuple(document["ablations"])), out)
        write_text(out / ABLATIONS_FILE, json.dumps(document, indent=1))
        write_text(out / "ablations.csv", ablations_to_csv(document))
        write_report(out)
    return document


def plan(experiment: Experiment, stream: Stream, num_experiences: int, identity: list[str]) -> Iterator[Planned]:
    """Every variant of the experiment's ablations that there is: on its stream, and with its pair; what experiment or
    pair do not take is told of.

    **Arguments:**

    - stream, num_experiences, identity: the experiment's stream, its length, and what tells its pair from others.
    """
    for name in experiment.ablations or ABLATIONS:
        for variant in ABLATIONS[name].variants:
            try:
                changed = variant.changed(experiment)
                its_identity = pair_identity(changed.load_pair())
            except ValueError as error:
                tell(f"{name}, {variant.label}: left out, as {error}")
                continue
            try:
                there = parse_stream(changed.stream, stream.data_root) if variant.stream else stream
                if variant.stream:
                    there.build(0)
            except ValueError:  # this stream does not come so
                continue
            default = variant.strategy == "clts" and (
                variant.stream == f"experiences={num_experiences}"
                if variant.stream
                else its_identity == identity and _but_for_pair(changed) == _but_for_pair(experiment)
            )
            yield Planned(name, variant, *((experiment, stream) if default else (changed, there)), default)


def _but_for_pair(experiment: Experiment) -> Experiment:
    return replace(experiment, captioner={}, generator={})


def _run(
    planned: list[Planned],
    seeds: int,
    folder: ResultsFolder,
    done: Callable[..., Iterator[tuple[Task, Results]]],
    images: Path | None,
) -> list[list[Results]]:
    """The results of every variant and seed, each computed once however often it is wanted."""
    tasks = [[variant.task(seed, images or folder.images) for seed in range(seeds)] for variant in planned]
    missing = {folder.file(task): task for of_variant in tasks for task in of_variant if folder.load(task) is None}
    with bar(total=len(missing), unit="run") as shown:
        waiting = deque(folder.prepared(task) for task in missing.values())
        for task, outcome in done(waiting, progress=shown.set_postfix_str):
            folder.save(task, outcome)
            shown.update()
    return [[_loaded(folder, task) for task in of_variant] for of_variant in tasks]


def _loaded(folder: ResultsFolder, task: Task) -> Results:
    found = folder.load(task)
    assert found is not None
    return found


def _answers(planned: list[Planned], results: list[list[Results]]) -> dict[str, Any]:
    """What `ablations.json` says of each ablation that was run, in all variants that were."""
    answers: dict[str, Any] = {}
    for one, runs in zip(planned, results, strict=True):
        ablation = ABLATIONS[one.ablation]
        answer = answers.setdefault(
            one.ablation, {"title": ablation.title, "x_label": ablation.x_label, "variants": []}
        )
        answer["variants"].append(
            {
                "label": one.variant.label,
                "x": one.variant.x,
                "default": one.default,
                "runs": list(map(_figures, runs)),
            }
        )
    return answers


def _figures(results: Results) -> Results:
    """A run without its matrices, which nothing shows, and without its seconds: it may have generated no image."""
    left_out = ("accuracy_matrix", "router_confusion", "seconds")
    return {name: value for name, value in results.items() if name not in left_out}


def _kept(file: Path) -> dict[str, Any]:
    """What an `ablations.json` holds already."""
    return read_object(file, "ablations", "command") if file.exists() else {}


def _beside_earlier(
    file: Path, earlier: dict[str, Any], shared: dict[str, Any], answers: dict[str, Any], command: str
) -> dict[str, Any]:
    """The content of `ablations.json`: the answers, and earlier ones of the same experiment; others are told of."""
    now = json.loads(json.dumps(shared))
    differing = [name for name in now if earlier and earlier.get(name) != now[name]]
    commands = [command]
    if differing:
        tell(f"{file} holds answers under other {', '.join(differing)}, which the new ones replace; its runs are kept")
    elif earlier:
        commands = list(dict.fromkeys([*earlier["command"].split(" ; "), command]))
        answers = earlier["ablations"] | answers
    ordered = {name: answers[name] for name in ABLATIONS if name in answers}
    told = {"command": " ; ".join(filter(None, commands)), **provenance(shared["device"])}
    return shared | told | {"ablations": ordered}
