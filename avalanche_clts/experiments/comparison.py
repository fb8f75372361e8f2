"""CLTS head to head with Avalanche's baselines, in one command."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .._support.files import write_text
from ..pair.loading import load_pair, pair_identity, pair_nbytes
from ..streams.named import Stream, parse_stream, slug
from .options import Hyperparameters, adjusted, require_networks, require_runs
from .page.memory_curve import areas
from .page.report import write_report
from .page.samples import make_samples
from .page.table import format_table
from .rows.strategies import COMPARED, STRATEGIES, Results
from .runs.execution import Task, execute
from .runs.lock import only_one
from .runs.results import ResultsFolder, to_csv
from .runs.runner import versions
from .settings import Settings, default_settings
from .tuning import GRIDS, tune

__all__ = ["Settings", "compare", "default_settings", "format_table", "write_report"]


def compare(
    *,
    stream: str = "digits",
    strategies: Sequence[str] | None = None,
    seeds: int = 3,
    out: Path = Path("results"),
    device: str = "cpu",
    pair: str = "embedded",
    data_root: Path | None = None,
    settings: Settings | None = None,
    network: str | None = None,
    router: str | None = None,
    train_epochs: int | None = None,
    train_mb_size: int | None = None,
    hyperparameters: Hyperparameters | None = None,
    tuning: bool = False,
    jobs: int = 1,
    real_images: bool = True,
    command: str = "",
) -> list[Results]:
    """Run every strategy on the stream with seeds 0 to `seeds - 1`, and write table, figures and report to `out`.

    Runs that `out` already holds are not computed again. Strategies whose memory budget is that of CLTS bring CLTS with
    them.

    **Arguments:**

    - stream: as `parse_stream` reads it.
    - strategies: names from `STRATEGIES`. None: all that are compared.
    - data_root: where downloaded data sets are, or are put. None: Avalanche's default.
    - settings: what all strategies share. None: the recorded ones of the stream.
    - network, train_epochs, train_mb_size: of every strategy, in the place of the settings' own.
    - router: network of CLTS's router, likewise.
    - hyperparameters: of single strategies, by their names, in the place of the settings' own: such as
        `{"clts": {"replay_size": 5000}}`.
    - tuning: search the hyper-parameters first, on a seed that is not reported; a strategy that is searched can be
        given none.
    - jobs: runs at a time, each in a process with its share of the cores.
    - real_images: whether the report shows real images beside regenerated ones; if not, no file in `out` holds any.
    - command: the command line, for the report.

    Raises `ValueError` for an unknown name or an absent device, and `OSError` for a folder that cannot be written.
    """
    chosen = _check(strategies, seeds, device, jobs)
    parsed = parse_stream(stream, data_root)
    settings = adjusted(
        settings or default_settings(parsed),
        network=network,
        router=router,
        train_epochs=train_epochs,
        train_mb_size=train_mb_size,
        hyperparameters=hyperparameters,
        searched=set(chosen) & set(GRIDS) if tuning else (),
    )
    benchmark = parsed.build(0)
    chosen = _fit(chosen, benchmark, stream, asked_for=strategies is not None)
    require_networks(settings, benchmark.train_stream[0].dataset)
    loaded = load_pair(pair, device=device)
    conditions = {"pair": pair_identity(loaded), "device": device, "versions": versions()}
    with only_one(out):
        folder = ResultsFolder(out, conditions)
        if tuning:
            found = tune(parsed, chosen, settings=settings, pair=pair, folder=folder, jobs=jobs)
            settings = replace(settings, tuned=settings.tuned | found)
        runs = _run_all(parsed, chosen, seeds, settings, pair, folder, jobs)
        _keep_samples(parsed, loaded, out / f"samples-{slug(stream)}.json", real_images)
    document = {
        "runs": runs,
        "accuracy_memory_area": areas(runs),
        "arguments": {"stream": stream, "strategies": list(chosen), "seeds": seeds, "device": device, "pair": pair},
        "settings": asdict(settings),
        "pair": {"name": pair, "identity": conditions["pair"], "bytes": pair_nbytes(loaded)},
        "command": command,
        "versions": conditions["versions"],
    }
    write_text(out / "results.json", json.dumps(document, indent=1))
    write_text(out / "results.csv", to_csv(runs))
    write_report(out)
    return runs


def _run_all(
    stream: Stream,
    strategies: Sequence[str],
    seeds: int,
    settings: Settings,
    pair: str,
    folder: ResultsFolder,
    jobs: int,
) -> list[Results]:
    """The results of every strategy and seed, from the folder or computed and put there."""
    runs: dict[tuple[str, int], Results] = {}
    tasks: deque[Task] = deque()
    # Some budgets depend on the CLTS run with the same seed: those runs follow it.
    after_clts = [strategy for strategy in strategies if STRATEGIES[strategy].after_clts]
    with tqdm(total=len(strategies) * seeds, unit="run", mininterval=0.5) as bar:

        def begin(strategy: str, seed: int, clts: Results | None = None) -> None:
            task = Task(stream, strategy, seed, settings, pair, folder.conditions["device"], clts=clts)
            found = folder.load(task)
            if found is None:
                tasks.append(folder.prepared(task, to_look_at=True))
            else:
                finished(found, "(already there)")

        def finished(results: Results, remark: str) -> None:
            runs[results["strategy"], results["seed"]] = results
            label = f"{results['strategy']}, seed {results['seed']}"
            bar.write(f"{label:28} average accuracy {100 * results['average_accuracy']:5.1f} %  {remark}")
            bar.update()
            if results["strategy"] == "clts":
                for strategy in after_clts:
                    begin(strategy, results["seed"], results)

        for seed in range(seeds):
            for strategy in strategies:
                if strategy not in after_clts:
                    begin(strategy, seed)
        for task, results in execute(tasks, jobs=jobs, progress=bar.set_description):
            folder.save(task, results)
            finished(results, f"{results['seconds']['total']:6.1f} s")
    order = list(STRATEGIES)
    return sorted(runs.values(), key=lambda r: (order.index(r["strategy"]), r["seed"]))


def _keep_samples(stream: Stream, pair: Any, file: Path, real_images: bool) -> None:
    """Write images of the stream beside what the pair makes of them, unless the file holds them already."""
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    wanted = {"stream": stream.name, "pair": pair_identity(pair), "real_images": real_images}
    if {name: kept.get(name) for name in wanted} != wanted:
        made = make_samples(stream.build(0), pair, real_images=real_images)
        write_text(file, json.dumps({**wanted, "samples": made}))


def _fit(chosen: Sequence[str], benchmark: Any, stream: str, *, asked_for: bool) -> list[str]:
    """The strategies that can run on the stream; the others are told of, or refused if they were asked for."""
    reasons = {name: reason for name in chosen if (reason := STRATEGIES[name].unfit(benchmark)) is not None}
    for name, reason in reasons.items():
        if asked_for:
            raise ValueError(f"strategies has {name}, which cannot run on {stream}: {reason}; leave it out")
        print(f"{name} is left out: {reason}")
    return [name for name in chosen if name not in reasons]


def _check(strategies: Sequence[str] | None, seeds: int, device: str, jobs: int) -> list[str]:
    """The strategies to run, in the order of `STRATEGIES`."""
    names = list(COMPARED if strategies is None else strategies)
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown:
        raise ValueError(f"strategies has {', '.join(unknown)}; known strategies: {', '.join(COMPARED)}")
    require_runs(seeds, jobs, device)
    if any(STRATEGIES[name].after_clts for name in names) and "clts" not in names:
        names.append("clts")
    return sorted(set(names), key=list(STRATEGIES).index)
