"""What each part of CLTS is worth: the strategy with one thing changed at a time, on one stream."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from avalanche.benchmarks import NCScenario
from tqdm import tqdm

from .._support.files import write_text
from ..images.avalanche import class_names
from ..pair.loading import Pair, load_pair, pair_identity
from ..streams.named import Stream, parse_stream
from .options import Hyperparameters, adjusted, require_networks, require_runs
from .page.report import write_report
from .rows.strategies import Results
from .runs.execution import Task, execute
from .runs.lock import only_one
from .runs.results import ABLATIONS_FILE, ResultsFolder, ablations_to_csv
from .runs.runner import versions
from .settings import Settings, default_settings
from .variants import ABLATIONS, Ablation, Variant


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
    network: str | None = None,
    router: str | None = None,
    train_epochs: int | None = None,
    train_mb_size: int | None = None,
    hyperparameters: Hyperparameters | None = None,
    jobs: int = 1,
    command: str = "",
) -> dict[str, Any]:
    """Run CLTS with one thing changed at a time, and write `ablations.json`, the same as CSV, and the report to `out`.

    Runs that `out` already holds are not computed again, and a variant that stands in several ablations (CLTS as it
    comes, above all) is run once. Ablations that `out` already holds, of the same experiment, stay in its
    `ablations.json`.

    **Arguments:** as in `compare`, and

    - only: names from `ABLATIONS`. None: all of them.
    """
    require_runs(seeds, jobs, device)
    unknown = [name for name in only or () if name not in ABLATIONS]
    if unknown:
        raise ValueError(f"only has {', '.join(unknown)}; known ablations: {', '.join(ABLATIONS)}")
    chosen = {name: ABLATIONS[name] for name in only or ABLATIONS}
    settings = adjusted(
        settings or default_settings(parse_stream(stream, data_root)),
        network=network,
        router=router,
        train_epochs=train_epochs,
        train_mb_size=train_mb_size,
        hyperparameters=hyperparameters,
    )
    loaded = load_pair(pair, device=device)
    shared = {"pair": pair_identity(loaded), "device": device, "versions": versions()}
    folder = ResultsFolder(out, shared)
    benchmark = parse_stream(stream, data_root).build(0)
    require_networks(settings, benchmark.train_stream[0].dataset)
    if reason := _unfit(settings, loaded):
        raise ValueError(f"{reason}, which the settings ask of it; leave that out, or choose another pair")
    chosen = {name: _possible(name, ablation, settings, loaded) for name, ablation in chosen.items()}
    unchanged = {
        (name, variant.label): _changes_nothing(variant, settings, loaded, len(benchmark.train_stream))
        for name, ablation in chosen.items()
        for variant in ablation.variants
    }
    wanted = {
        (name, variant.label, seed): _task(
            stream,
            Variant(variant.label) if unchanged[name, variant.label] else variant,
            seed,
            settings,
            pair,
            data_root,
            folder,
        )
        for name, ablation in chosen.items()
        for variant in ablation.variants
        for seed in range(seeds)
    }
    experiment = {
        "stream": stream,
        "class_names": _class_names(benchmark),
        "seeds": seeds,
        "device": device,
        "versions": shared["versions"],
        "contents": parse_stream(stream, data_root).contents,
        "pair": shared["pair"],
        "settings": asdict(settings),
    }
    file = out / ABLATIONS_FILE
    if differing := _differing(_earlier(file), experiment):
        print(f"{file} holds answers under other {', '.join(differing)}, which the new ones replace; its runs are kept")
    with only_one(out):
        results = _run({key: task for key, task in wanted.items() if task is not None}, folder, jobs)
    answers = _answers(chosen, unchanged, results, seeds)
    document = _beside_earlier(_earlier(file), experiment, answers, command)
    write_text(file, json.dumps(document, indent=1))
    write_text(out / "ablations.csv", ablations_to_csv(document))
    write_report(out)
    return document


def _answers(
    chosen: dict[str, Ablation],
    unchanged: dict[tuple[str, str], bool],
    results: dict[tuple[str, str, int], Results],
    seeds: int,
) -> dict[str, Any]:
    """What `ablations.json` says of each ablation that was run, in all variants that were."""
    answers = {
        name: {
            "title": ablation.title,
            "x_label": ablation.x_label,
            "variants": [
                {
                    "label": variant.label,
                    "x": variant.x,
                    "default": unchanged[name, variant.label],
                    "runs": [_figures(results[name, variant.label, seed]) for seed in range(seeds)],
                }
                for variant in ablation.variants
                if (name, variant.label, 0) in results
            ],
        }
        for name, ablation in chosen.items()
    }
    return {name: answer for name, answer in answers.items() if answer["variants"]}


def _possible(name: str, ablation: Ablation, settings: Settings, pair: Pair) -> Ablation:
    """The ablation without variants that this pair cannot serve, which are told of."""
    reasons = {variant.label: _unfit(variant.change(settings), pair) for variant in ablation.variants}
    for label, reason in reasons.items():
        if reason is not None:
            print(f"{name}, {label}: left out, as {reason}")
    return replace(ablation, variants=[v for v in ablation.variants if reasons[v.label] is None])


def _unfit(settings: Settings, pair: Pair) -> str | None:
    """What the settings ask of the pair and it does not have; None if it has everything."""
    asked: list[tuple[Any, str]] = [(pair.captioner, name) for name in settings.captioner]
    asked += [(pair.generator, name) for name in settings.generator]
    if settings.tuned.get("clts", {}).get("selection") == "diverse":
        asked.append((pair.captioner, "features"))
    return next((f"{type(part).__name__} has no {name}" for part, name in asked if not hasattr(part, name)), None)


def _earlier(file: Path) -> dict[str, Any]:
    """The content of an `ablations.json`; empty if there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _differing(earlier: dict[str, Any], experiment: dict[str, Any]) -> list[str]:
    """What earlier answers do not share with this experiment; nothing where there are none."""
    now = json.loads(json.dumps(experiment))
    return [name for name in now if earlier and earlier.get(name) != now[name]]


def _beside_earlier(
    earlier: dict[str, Any], experiment: dict[str, Any], answers: dict[str, Any], command: str
) -> dict[str, Any]:
    """The content of `ablations.json`: the answers, and earlier ones of the same experiment."""
    commands = [command]
    if earlier and not _differing(earlier, experiment):
        commands = list(dict.fromkeys([*earlier["command"].split(" ; "), command]))
        answers = earlier["ablations"] | answers
    ordered = {name: answers[name] for name in ABLATIONS if name in answers}
    return experiment | {"command": " ; ".join(filter(None, commands)), "ablations": ordered}


def _changes_nothing(variant: Variant, settings: Settings, pair: Pair, num_experiences: int) -> bool:
    """Whether a variant changes nothing, since what it sets is set so anyway."""
    if variant.strategy != "clts":
        return False
    if variant.stream:
        return variant.stream == f"experiences={num_experiences}"
    changed = variant.change(settings)
    return replace(changed, captioner=settings.captioner, generator=settings.generator) == settings and all(
        set_of_it.get(name, getattr(part, name, None)) == value
        for part, set_of_it, options in (
            (pair.captioner, settings.captioner, changed.captioner),
            (pair.generator, settings.generator, changed.generator),
        )
        for name, value in options.items()
    )


def _class_names(benchmark: NCScenario) -> list[str]:
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
    try:
        parsed: Stream = parse_stream(name, data_root)
        if variant.stream:
            parsed.build(seed)
    except ValueError:
        return None
    changed = variant.change(settings)
    return Task(parsed, variant.strategy, seed, changed, pair, folder.conditions["device"], images=folder.images)


def _run(wanted: dict[tuple[str, str, int], Task], folder: ResultsFolder, jobs: int) -> dict[Any, Results]:
    """The results of every run, each computed once however often it is wanted."""
    missing = {file: task for task in wanted.values() if not (file := folder.file(task)).exists()}
    with tqdm(total=len(missing), unit="run") as bar:
        tasks = deque(folder.prepared(task) for task in missing.values())
        for task, outcome in execute(tasks, jobs=jobs, progress=bar.set_description):
            folder.save(task, outcome)
            bar.update()
    results: dict[Any, Results] = {}
    for key, task in wanted.items():
        found = folder.load(task)
        assert found is not None
        results[key] = found
    return results
