"""CLTS head to head with Avalanche's baselines, in one command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from ..named_streams import parse_stream, slug
from ..pairs import Pair, load_pair, pair_identity, pair_nbytes
from .report import render_report
from .results import ResultsFolder, read_runs, to_csv, write_text
from .runner import run, versions
from .samples import make_samples
from .settings import Settings, default_settings
from .strategies import STRATEGIES, Results
from .table import format_table

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
    command: str = "",
) -> list[Results]:
    """Run every strategy on the stream with seeds 0 to `seeds - 1`, and write table, figures and report to `out`.

    Runs that `out` already holds are not computed again. Strategies whose memory budget is that of CLTS bring CLTS with
    them.

    **Arguments:**

    - stream: as `parse_stream` reads it.
    - strategies: names from `STRATEGIES`. None: all of them.
    - data_root: where downloaded data sets are, or are put. None: Avalanche's default.
    - settings: what all strategies share. None: the recorded ones of the stream.
    - command: the command line, for the report.

    Raises `ValueError` for an unknown name or an absent device, and `OSError` for a folder that cannot be written.
    """
    chosen = _check(strategies, seeds, device)
    parsed = parse_stream(stream, data_root)
    settings = settings or default_settings(parsed)
    loaded = load_pair(pair, device=device)
    conditions = {
        "settings": asdict(settings),
        "pair": pair_identity(loaded),
        "device": device,
        "versions": versions(),
    }
    folder = ResultsFolder(out, conditions)
    runs: list[Results] = []
    warm = False
    bar = tqdm(total=len(chosen) * seeds, unit="run", mininterval=0.5)
    for seed in range(seeds):
        clts: Results | None = None
        for strategy in chosen:
            label = f"{strategy}, seed {seed}"
            results = folder.load(stream, strategy, seed)
            found = results is not None
            if results is None:
                bar.set_description(label)
                if not warm:
                    _warm_up(loaded)
                    warm = True
                results = run(
                    parsed,
                    strategy,
                    seed,
                    settings=settings,
                    pair=loaded,
                    device=device,
                    tensorboard=folder.fresh_tensorboard(stream, strategy, seed),
                    clts=clts,
                    progress=lambda message, label=label: bar.set_description(f"{label}: {message}"),  # type: ignore[misc]
                )
                folder.save(results)
            if strategy == "clts":
                clts = results
            runs.append(results)
            bar.update()
            bar.write(
                f"{label:24} average accuracy {100 * results['average_accuracy']:5.1f} %  "
                + ("(already there)" if found else f"{results['seconds']['total']:5.1f} s")
            )
    bar.close()
    runs.sort(key=lambda r: (list(STRATEGIES).index(r["strategy"]), r["seed"]))
    samples_file = out / f"samples-{slug(stream)}.json"
    samples = json.loads(samples_file.read_text(encoding="utf-8")) if samples_file.exists() else {}
    if samples.get("pair") != conditions["pair"]:
        made = make_samples(parsed.build(0), loaded)
        kept = {"stream": stream, "pair": conditions["pair"], "samples": made}
        write_text(samples_file, json.dumps(kept))
    document = {
        "runs": runs,
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


def write_report(out: Path) -> Path:
    """Draw `report.html` anew from the `results.json` in `out`, and return its path."""
    document = read_runs(out)
    samples: dict[str, Any] = {}
    for file in sorted(out.glob("samples-*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        samples[content["stream"]] = content["samples"]
    report = out / "report.html"
    write_text(report, render_report(document, samples))
    return report


def _warm_up(pair: Pair) -> None:
    """Load the pair before anything is timed: whichever run came first would bear the cost alone."""
    pair.captioner.caption([Image.new("RGB", (8, 8))], ["warm-up"])
    pair.generator.generate(["warm-up"], [0])


def _check(strategies: Sequence[str] | None, seeds: int, device: str) -> list[str]:
    """The strategies to run, CLTS first where another's budget depends on it."""
    names = list(STRATEGIES if strategies is None else strategies)
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown:
        raise ValueError(f"strategies has {', '.join(unknown)}; known strategies: {', '.join(STRATEGIES)}")
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; it must be at least 1")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device is {device!r}, which this machine does not have ({reason}); use cpu") from None
    if any(STRATEGIES[name].after_clts for name in names) and "clts" not in names:
        names.append("clts")
    order = list(STRATEGIES)
    return sorted(dict.fromkeys(names), key=lambda name: (STRATEGIES[name].after_clts, order.index(name)))
