"""CLTS head to head with Avalanche's baselines, in one command."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from .._support.console import bar, tell
from .._support.files import read_object, write_text
from ..loggers import WandBRuns
from ..memory.origins import names_of_classes
from ..pair.loading import Pair, pair_identity, pair_nbytes
from ..streams.named import Stream, parse_stream, slug
from .begin import fitting, require_fit, require_machine
from .config import keep
from .experiment import Conditions, Experiment
from .page.memory_curve import areas
from .page.provenance import provenance
from .page.report import write_report
from .page.samples import make_samples
from .readiness import require_known, require_places, require_wandb_account
from .rows import ROWS, Results
from .runs.backbones import backbone_identities, backbone_nbytes, compute_features
from .runs.execution import Task, execute
from .runs.folder import ResultsFolder, without_seconds
from .runs.lock import only_one
from .runs.results import RESULTS_FILE, to_csv
from .runs.runner import versions
from .told import introduction, origin_of_settings
from .tuning import found_before, require_searchable, tune


def compare(
    experiment: Experiment,
    *,
    out: Path = Path("results"),
    data_root: Path | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
    real_images: bool = True,
    image_cache: Path | None = None,
    command: str = "",
    wandb: str | None = None,
) -> list[Results]:
    """Run every strategy of the experiment with every seed, and write table, figures, report and the experiment as it
    was run to `out`.

    Runs that `out` already holds are not computed again. Strategies whose memory budget is that of CLTS bring CLTS with
    them.

    **Arguments:**

    - out: folder of the results, made if missing.
    - data_root: where downloaded data sets are, or are put. None: Avalanche's default.
    - jobs: runs at a time, each in a process with its share of the cores. None: one, or all that an executor has room
        for.
    - executor: has the runs done, on this machine or others: any `concurrent.futures.Executor`, such as
        `open_executor` makes, or Dask's `Client(...).get_executor(pure=False)`. None: this machine.
    - real_images: whether the report shows real images beside regenerated ones; if not, no file in `out` holds any.
    - image_cache: folder of generated images that runs share with each other and with other comparisons, see
        `CachedGenerator`; the seconds of such runs are not reported. None: every run generates its own.
    - command: the command line, for the report.
    - wandb: project on Weights & Biases to which every run is logged that is computed now. None: none is.

    Raises `ValueError` for a strategy that cannot run on the stream, an absent device, or a project on Weights & Biases
    without a key of an account, and `OSError` for a folder that cannot be written.
    """
    require_known(experiment)
    require_places(experiment, out, image_cache)
    if wandb is not None and executor is None:  # elsewhere there may be an account where here is none
        require_wandb_account(wandb)
    require_machine(experiment, jobs, executor)
    stream = parse_stream(experiment.stream, data_root)
    benchmark = stream.build(0)
    pair = experiment.load_pair()
    experiment = experiment.shown(pair, benchmark)
    experiment = replace(experiment, strategies=tuple(fitting(experiment, benchmark, pair)))
    require_fit(experiment, benchmark, pair)
    class_names = names_of_classes(benchmark)
    conditions = Conditions(pair_identity(pair), versions(), backbone_identities(experiment, pair), class_names)
    for line in introduction(experiment, benchmark, strategies=experiment.chosen):
        tell(line)
    if experiment.tune:
        require_searchable(benchmark)
    with only_one(out):
        folder = ResultsFolder(out, conditions)
        compute_features(experiment, benchmark, pair, folder.features)
        if experiment.tune:
            found = tune(experiment, stream=stream, folder=folder, jobs=jobs, executor=executor)
            experiment = replace(experiment, hyperparameters=experiment.hyperparameters | found, tune=False)
        origin = origin_of_settings(experiment, experiment.chosen, found_before(out, stream))
        keep(experiment, out)
        done = partial(execute, jobs=jobs, executor=executor)
        runs = _run_all(experiment, stream, folder, done, image_cache, WandBRuns(wandb, out) if wandb else None)
        _keep_samples(stream, pair, class_names, out / f"samples-{slug(stream.name)}.json", real_images)
        document = {
            "runs": runs,
            "accuracy_memory_area": areas(runs),
            "arguments": {
                "stream": experiment.stream,
                "strategies": experiment.chosen,
                "seeds": experiment.seeds,
                "device": experiment.device,
                "pair": experiment.pair,
            },
            "settings": experiment.settings(),
            "hyperparameters_from": origin,
            "pair": {"name": experiment.pair, "identity": conditions.pair, "bytes": pair_nbytes(pair)},
            "class_names": class_names,
            "backbones": conditions.backbones,
            "backbone_bytes": backbone_nbytes(experiment, pair),
            "command": command,
            **provenance(experiment.device),
            "versions": conditions.versions,
        }
        write_text(out / RESULTS_FILE, json.dumps(document, indent=1))
        write_text(out / "results.csv", to_csv(runs))
        write_report(out)
    return runs


def _run_all(
    experiment: Experiment,
    stream: Stream,
    folder: ResultsFolder,
    done: Callable[..., Iterator[tuple[Task, Results]]],
    images: Path | None,
    wandb: WandBRuns | None,
) -> list[Results]:
    """The results of every strategy and seed, from the folder or computed and put there."""
    runs: dict[tuple[str, int], Results] = {}
    tasks: deque[Task] = deque()
    strategies = experiment.chosen
    # Some budgets depend on the CLTS run with the same seed: those runs follow it.
    after_clts = [strategy for strategy in strategies if ROWS[strategy].after_clts]
    with bar(total=len(strategies) * experiment.seeds, unit="run", mininterval=0.5) as shown:

        def begin(strategy: str, seed: int, clts: Results | None = None) -> None:
            task = Task(experiment, strategy, seed, stream, clts=clts, images=images)
            found = folder.load(task)
            if found is None:
                tasks.append(replace(folder.prepared(task, to_look_at=True), wandb=wandb))
            else:
                finished(found, "(already there)")

        def finished(results: Results, remark: str) -> None:
            runs[results["strategy"], results["seed"]] = results
            label = f"{results['strategy']}, seed {results['seed']}"
            tell(f"{label:28} average accuracy {100 * results['average_accuracy']:5.1f} %  {remark}")
            shown.update()
            if results["strategy"] == "clts":
                for strategy in after_clts:
                    begin(strategy, results["seed"], results)

        for seed in range(experiment.seeds):
            for strategy in strategies:
                if strategy not in after_clts:
                    begin(strategy, seed)
        for task, results in done(tasks, progress=shown.set_postfix_str):
            folder.save(task, results)
            if task.is_timed:
                finished(results, f"{results['seconds']['total']:6.1f} s")
            else:
                finished(without_seconds(results), "(with images of others)")
    return sorted(runs.values(), key=lambda r: (strategies.index(r["strategy"]), r["seed"]))


def _keep_samples(stream: Stream, pair: Pair, class_names: list[str], file: Path, real_images: bool) -> None:
    """Write images of the stream beside what the pair makes of them, unless the file holds them already."""
    kept: dict[str, Any] = {}
    if file.exists():
        with suppress(ValueError):  # what is damaged is made again
            kept = read_object(file)
    wanted: dict[str, Any] = {
        "stream": stream.name,
        "contents": stream.contents,
        "class_names": class_names,
        "pair": pair_identity(pair),
        "real_images": real_images,
    }
    if {name: kept.get(name) for name in wanted} != wanted:
        made = make_samples(stream.build(0), pair, real_images=real_images)
        write_text(file, json.dumps({**wanted, "samples": made}))
