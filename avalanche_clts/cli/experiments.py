"""The commands of experiments: compare, ablate, and what is made of their results: report, audit."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .parts import add_names, arguments_of_parts, is_of_part, pair_name

if TYPE_CHECKING:
    from ..experiments.experiment import Experiment


def add_commands(commands: Any) -> None:
    """Add them to a parser's commands."""
    compare = commands.add_parser("compare", help="run CLTS and Avalanche's baselines head to head")
    _add_experiment(compare, stream="digits", seeds=3, out="results")
    compare.add_argument("--strategies", nargs="+", metavar="NAME", help="the strategies (default: all)")
    compare.add_argument(
        "--tune",
        action="store_const",
        const=True,
        help="search every strategy's hyper-parameters first, on a seed of its own",
    )
    compare.add_argument(
        "--no-real-images", action="store_true", help="show no real images in the report: no file will hold any"
    )
    compare.add_argument(
        "--wandb",
        nargs="?",
        const="avalanche-clts",
        metavar="PROJECT",
        help="log every run to Weights & Biases too (default project: %(const)s)",
    )
    compare.add_argument("--list", action="store_true", help="list streams and strategies, and stop")
    compare.set_defaults(run=_compare)

    ablate = commands.add_parser("ablate", help="run CLTS with one thing changed at a time")
    _add_experiment(ablate, stream="shapes", seeds=5, out="ablations")
    ablate.add_argument("--only", nargs="+", metavar="NAME", dest="ablations", help="ablations to run (default: all)")
    ablate.set_defaults(run=_ablate)

    report = commands.add_parser("report", help="print the tables and draw the report of finished work anew")
    report.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="folders given to compare and ablate as --out"
    )
    report.add_argument("--out", type=Path, metavar="DIR", help="folder of the report (default: the first DIR)")
    report.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    report.set_defaults(run=_report)

    audit = commands.add_parser("audit", help="look for real images in the files of a finished comparison")
    audit.add_argument("folder", type=Path, metavar="DIR", help="folder given to compare as --out")
    audit.add_argument("--data-root", type=Path, metavar="DIR", help="where downloaded data sets are")
    audit.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    audit.set_defaults(run=_audit)


def _add_experiment(parser: argparse.ArgumentParser, *, stream: str, seeds: int, out: str) -> None:
    """The arguments that every experiment takes; the defaults are those where there is no --config."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a TOML file with the experiment; what else is given overrules it"
    )
    parser.add_argument("--stream", help=f"NAME or NAME:option=value,...; see compare --list (default: {stream})")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="where downloaded data sets are, or are put")
    parser.add_argument("--seeds", type=int, metavar="N", help=f"seeds 0 to N-1 (default: {seeds})")
    parser.add_argument("--out", type=Path, default=Path(out), metavar="DIR", help="folder of the results")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="runs at a time (default: 1; with --executor, all that it has room for)"
    )
    parser.add_argument(
        "--executor",
        metavar="WHERE",
        help="have the runs done on other machines: tcp://HOST:PORT, a Dask scheduler, or "
        "slurm:timeout_min=MINUTES,partition=NAME,...; see docs/many-devices.md (default: on this one)",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        dest="train_epochs",
        help="of every strategy (default: the stream's)",
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="N", dest="train_mb_size", help="of every strategy (default: the stream's)"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME.OPTION=VALUE",
        help="hyper-parameters of a strategy, such as clts.replay_size=5000 (default: what the search found), or "
        "arguments of the pair's parts, such as pair.generator.steps=2",
    )
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help="a pretrained network below every strategy's, frozen: captioner, efficientnet-lite0, timm:NAME or "
        "torchvision:NAME (default: none)",
    )
    parser.add_argument(
        "--fine-tune", action="store_const", const=True, help="have every network train a backbone of its own"
    )
    parser.add_argument(
        "--network",
        help="of every strategy: small-cnn, cnn, slim-resnet18 (default: the stream's); on a backbone: linear or mlp "
        "(default: linear)",
    )
    parser.add_argument(
        "--router",
        metavar="NETWORK",
        help="network of CLTS's router, or a backbone (default: small-cnn or cnn, by the size of the images)",
    )
    parser.add_argument(
        "--pair",
        help="pair of captioner and generator: a name or a folder (default: the embedded one for the stream)",
    )
    add_names(parser)
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cpu)")
    parser.add_argument(
        "--image-cache",
        type=Path,
        metavar="DIR",
        help="generated images that runs share with each other and with other commands, 10 GB at most; the seconds of "
        "such runs are not told (default: every run of compare generates its own)",
    )
    parser.set_defaults(without_config={"stream": stream, "seeds": seeds})


_FIELDS = (
    "stream",
    "strategies",
    "ablations",
    "seeds",
    "tune",
    "pair",
    "device",
    "backbone",
    "fine_tune",
    "network",
    "router",
    "train_epochs",
    "train_mb_size",
)  # of an experiment, that a command line can give


def asked_experiment(arguments: argparse.Namespace) -> Experiment:
    """The experiment that a command line asks for."""
    from ..experiments.config import experiment_of, read_experiment

    given = {name: value for name in _FIELDS if (value := getattr(arguments, name, None)) is not None}
    if arguments.config is None:
        asked = experiment_of(**arguments.without_config | given)
    else:
        asked = read_experiment(arguments.config, **given)
    told = _hyperparameters([text for text in arguments.set if not is_of_part(text)])
    parts = arguments_of_parts([text for text in arguments.set if is_of_part(text)])
    changed: dict[str, Any] = {name: getattr(asked, name) | options for name, options in parts.items() if options}
    pair = pair_name(asked.pair, arguments)
    if pair != asked.pair:
        changed["pair"] = pair
    if told:
        changed["hyperparameters"] = {k: asked.hyperparameters.get(k, {}) | v for k, v in told.items()}
    return asked.with_given(**changed) if changed else asked


@contextmanager
def _where(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Where and how an experiment is run, which changes nothing of what comes out."""
    from .._support.executors import open_executor

    executor = arguments.executor and open_executor(arguments.executor, arguments.out / "runs" / "jobs")
    with executor or nullcontext() as opened:
        yield {
            "out": arguments.out,
            "data_root": arguments.data_root,
            "jobs": arguments.jobs,
            "executor": opened,
            "image_cache": arguments.image_cache,
            "command": shlex.join(["clts", *sys.argv[1:]]),
        }


def _compare(arguments: argparse.Namespace) -> int:
    if arguments.list:
        _list_known()
        return 0
    asked = asked_experiment(arguments)
    _require_ready(asked, arguments, wandb=arguments.wandb)
    from ..experiments import compare
    from ..experiments.page.table import format_table, settings_note
    from ..experiments.runs.results import read_runs

    with _where(arguments) as where:
        runs = compare(asked, **where, real_images=not arguments.no_real_images, wandb=arguments.wandb)
    note = settings_note(read_runs(arguments.out))
    print(f"\n{format_table(runs)}\n\n{note}\nreport: {arguments.out / 'report.html'}")
    return 0


def _list_known() -> None:
    from ..experiments.rows import COMPARED, ROWS
    from ..streams.named import STREAMS

    compared = {name: ROWS[name] for name in COMPARED}
    for title, entries in (("streams", STREAMS), ("strategies", compared)):
        print(f"{title}:")
        print("\n".join(f"  {name:20}{entry.description}" for name, entry in entries.items()))


def _require_ready(asked: Experiment, arguments: argparse.Namespace, *, wandb: str | None = None) -> None:
    """Refuse what can be refused before that is loaded which runs experiments, and takes seconds."""
    from ..experiments.readiness import require_known, require_places, require_wandb_account

    require_known(asked)
    require_places(asked, arguments.out, arguments.image_cache)
    if wandb is not None and arguments.executor is None:
        require_wandb_account(wandb)


def _hyperparameters(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read "clts.replay_size=5000" and the like; values are numbers or words."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        strategy, dot, option = name.partition(".")
        if not (equals and dot and option.isidentifier()):
            raise ValueError(f"--set is given {text!r}; write STRATEGY.OPTION=VALUE, such as clts.replay_size=5000")
        try:
            found.setdefault(strategy, {})[option] = json.loads(value.lower() if value in ("True", "False") else value)
        except ValueError:
            found.setdefault(strategy, {})[option] = value
    return found


def _report(arguments: argparse.Namespace) -> int:
    from ..experiments.runs.results import read_finished

    folders = arguments.folders
    document, ablations = read_finished(folders)
    from ..experiments.page.report import write_report
    from ..experiments.page.table import (
        format_ablations,
        format_markdown,
        format_markdown_ablations,
        format_table,
        settings_note,
    )

    runs = document["runs"] if document else []
    for stream in dict.fromkeys(run["stream"] for run in runs):
        of_stream = [run for run in runs if run["stream"] == stream]
        shown = format_markdown(of_stream) if arguments.markdown else f"{stream}\n{format_table(of_stream)}"
        print(f"{shown}\n")
    if document:
        print(f"{settings_note(document)}\n")
    if arguments.markdown and ablations:
        print(format_markdown_ablations(ablations))
    elif ablations:
        print("\n\n".join(f"{found['stream']}\n\n{format_ablations(found)}" for found in ablations))
    print(f"report: {write_report(arguments.out or folders[0], folders)}", file=sys.stderr)
    return 0


def _ablate(arguments: argparse.Namespace) -> int:
    asked = asked_experiment(arguments)
    _require_ready(asked, arguments)
    from ..experiments import ablate
    from ..experiments.page.table import format_ablations

    with _where(arguments) as where:
        document = ablate(asked, **where)
    print(f"\n{format_ablations(document)}\n\nreport: {arguments.out / 'report.html'}")
    return 0


def _audit(arguments: argparse.Namespace) -> int:
    from ..experiments.runs.results import read_runs

    read_runs(arguments.folder)  # which is there, or else nothing is to be loaded
    from ..experiments.audit import audit, format_audit

    command = shlex.join(["clts", *sys.argv[1:]])
    outcome = audit(arguments.folder, data_root=arguments.data_root, device=arguments.device, command=command)
    print(format_audit(outcome))
    return 1 if outcome["files_with_real_images"] else 0
