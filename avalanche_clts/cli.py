"""The command line: experiments, their report, training a pair, and captions and images for their own sake."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .pair.commands import add_check, add_fetch

if TYPE_CHECKING:
    from .experiments.experiment import Experiment

_DESCRIPTION = "Continual learning with text in the place of stored images (CLTS, arXiv 2409.17806)."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        status: int = arguments.run(arguments)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print("\n  ".join([f"clts: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nclts: interrupted; finished work is kept, the same command goes on from there", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="clts", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"clts {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

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

    caption = commands.add_parser("caption", help="write a caption of each image")
    caption.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="files, and folders of them")
    caption.add_argument("--out", type=Path, metavar="FILE", help="a metadata.jsonl (default: the terminal)")
    _add_pair(caption)
    caption.set_defaults(run=_caption)

    generate = commands.add_parser("generate", help="make an image of each text")
    generate.add_argument("prompts", nargs="*", metavar="TEXT")
    generate.add_argument(
        "--captions",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="captions.jsonl.gz, metadata.jsonl, lines",
    )
    generate.add_argument("--out", type=Path, default=Path("generated"), metavar="DIR", help="folder of the images")
    generate.add_argument("--seed", type=int, default=0, help="of the first image; the following count up")
    _add_pair(generate)
    generate.set_defaults(run=_generate)

    pairs = commands.add_parser("pairs", help="list the captioners and generators that --pair knows by name")
    pairs.set_defaults(run=_pairs)
    add_fetch(commands)
    add_check(commands)

    pretrain = commands.add_parser("pretrain", help="train a pair from nothing")
    pretrain.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the pair")
    pretrain.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="class subfolders, or metadata.jsonl (default: digits and shapes)",
    )
    pretrain.add_argument("--size", type=int, metavar="N", help="side that the images are brought to, in pixels")
    pretrain.add_argument(
        "--no-mirror", action="store_true", help="do not learn from mirrored images as well: letters, left and right"
    )
    pretrain.add_argument("--skip-damaged", action="store_true", help="go on without files that cannot be opened")
    pretrain.add_argument("--part", default="1/1", metavar="K/N", help="learn from the K-th of N parts of the images")
    for part in ("captioner", "autoencoder", "diffusion", "distillation"):
        pretrain.add_argument(f"--{part}-steps", type=int, metavar="N", help="optimizer steps of this part")
    pretrain.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    pretrain.set_defaults(run=_pretrain)
    return parser


def _add_experiment(parser: argparse.ArgumentParser, *, stream: str, seeds: int, out: str) -> None:
    """The arguments that every experiment takes; the defaults are those where there is no --config."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a TOML file with the experiment; what else is given overrules it"
    )
    parser.add_argument("--stream", help=f"NAME or NAME:option=value,...; see compare --list (default: {stream})")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="where downloaded data sets are, or are put")
    parser.add_argument("--seeds", type=int, metavar="N", help=f"seeds 0 to N-1 (default: {seeds})")
    parser.add_argument("--out", type=Path, default=Path(out), metavar="DIR", help="folder of the results")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default: %(default)s)")
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
        metavar="STRATEGY.OPTION=VALUE",
        help="hyper-parameters of a strategy, such as clts.replay_size=5000 (default: what the search found)",
    )
    parser.add_argument(
        "--network",
        help="of every strategy: small-cnn, cnn, slim-resnet18, or captioner, a linear layer on its frozen features "
        "(default: the stream's)",
    )
    parser.add_argument(
        "--router",
        metavar="NETWORK",
        help="network of CLTS's router (default: small-cnn or cnn, by the size of the images)",
    )
    parser.add_argument("--pair", help="pair of captioner and generator: a name or a folder (default: embedded)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cpu)")
    parser.set_defaults(without_config={"stream": stream, "seeds": seeds})


_FIELDS = (
    "stream",
    "strategies",
    "ablations",
    "seeds",
    "tune",
    "pair",
    "device",
    "network",
    "router",
    "train_epochs",
    "train_mb_size",
)  # of an experiment, that a command line can give


def _experiment(arguments: argparse.Namespace) -> Experiment:
    """The experiment that a command line asks for."""
    from .experiments.config import experiment_of, read_experiment

    given = {name: value for name in _FIELDS if (value := getattr(arguments, name, None)) is not None}
    if arguments.config is None:
        asked = experiment_of(**arguments.without_config | given)
    else:
        asked = read_experiment(arguments.config, **given)
    told = _hyperparameters(arguments.set)
    if not told:
        return asked
    return asked.with_given(hyperparameters={k: asked.hyperparameters.get(k, {}) | v for k, v in told.items()})


def _where(arguments: argparse.Namespace) -> dict[str, Any]:
    """Where and how an experiment is run, which changes nothing of what comes out."""
    return {
        "out": arguments.out,
        "data_root": arguments.data_root,
        "jobs": arguments.jobs,
        "command": shlex.join(["clts", *sys.argv[1:]]),
    }


def _add_pair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pair", default="embedded", help="pair of captioner and generator: a name or a folder")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")


# Each command imports what it needs.


def _compare(arguments: argparse.Namespace) -> int:
    from .experiments import compare
    from .experiments.page.table import format_table
    from .experiments.rows import COMPARED, ROWS
    from .streams.named import STREAMS

    if arguments.list:
        compared = {name: ROWS[name] for name in COMPARED}
        for title, entries in (("streams", STREAMS), ("strategies", compared)):
            print(f"{title}:")
            print("\n".join(f"  {name:20}{entry.description}" for name, entry in entries.items()))
        return 0
    runs = compare(_experiment(arguments), **_where(arguments), real_images=not arguments.no_real_images)
    print(f"\n{format_table(runs)}\n\nreport: {arguments.out / 'report.html'}")
    return 0


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
    from .experiments.page.report import write_report
    from .experiments.page.table import (
        format_ablations,
        format_markdown,
        format_markdown_ablations,
        format_table,
    )
    from .experiments.runs.results import read_finished

    folders = arguments.folders
    document, ablations = read_finished(folders)
    runs = document["runs"] if document else []
    for stream in dict.fromkeys(run["stream"] for run in runs):
        of_stream = [run for run in runs if run["stream"] == stream]
        print(format_markdown(of_stream) if arguments.markdown else f"{stream}\n{format_table(of_stream)}\n")
    if arguments.markdown and ablations:
        print(format_markdown_ablations(ablations))
    elif ablations:
        print("\n\n".join(f"{found['stream']}\n\n{format_ablations(found)}" for found in ablations))
    print(f"report: {write_report(arguments.out or folders[0], folders)}", file=sys.stderr)
    return 0


def _ablate(arguments: argparse.Namespace) -> int:
    from .experiments import ablate
    from .experiments.page.table import format_ablations

    document = ablate(_experiment(arguments), **_where(arguments))
    print(f"\n{format_ablations(document)}\n\nreport: {arguments.out / 'report.html'}")
    return 0


def _audit(arguments: argparse.Namespace) -> int:
    from .experiments.audit import audit, format_audit

    command = shlex.join(["clts", *sys.argv[1:]])
    outcome = audit(arguments.folder, data_root=arguments.data_root, device=arguments.device, command=command)
    print(format_audit(outcome))
    return 1 if outcome["files_with_real_images"] else 0


def _pairs(arguments: argparse.Namespace) -> int:
    from .experiments.page.table import format_columns, human_bytes
    from .pair.catalogue import CAPTIONERS, GENERATORS
    from .pair.loading import load_pair, pair_nbytes

    header = ["name", "on the hub", "licence", "parameters", "weights", "steps", "guidance", "images"]
    for title, entries in (("captioners", CAPTIONERS), ("generators", GENERATORS)):
        rows = []
        for name, entry in entries.items():
            options = entry.arguments
            weights = [f"{entry.millions} M", human_bytes(entry.nbytes)]
            sampling = [str(options.get("steps", "-")), str(options.get("guidance_scale", "-"))]
            size = "-" if entry.size is None else f"{entry.size}x{entry.size}"
            rows.append([name, options["name_or_path"], entry.licence, *weights, *sampling, size])
            if "lora" in options:
                rows.append(["", f"+ {options['lora']}", *[""] * (len(header) - 2)])
        print(f"{title}:\n{format_columns(header, rows, left=3)}\n")
    embedded = human_bytes(pair_nbytes(load_pair("embedded")) or 0)
    print(f"""--pair CAPTIONER+GENERATOR, such as blip+sd-turbo; behind either, @REVISION pins a revision on the hub.
Weights are in half precision; beside them the device needs memory for a batch (batch_size makes it less).
--pair embedded: {embedded}, ships with the package, needs no network and no GPU.""")
    return 0


def _caption(arguments: argparse.Namespace) -> int:
    from .images.files import open_image, require_readable
    from .pair.bulk import caption_files, image_files
    from .pair.distributed import device_of_process, is_first_process
    from .pair.loading import load_pair

    files = image_files(arguments.images)
    require_readable(files)
    captioner = load_pair(arguments.pair, device=device_of_process(arguments.device)).captioner
    if arguments.out is None:
        texts = captioner.caption([open_image(file) for file in files])
        print("\n".join(f"{file}\t{text}" for file, text in zip(files, texts, strict=True)))
    else:
        caption_files(files, captioner, arguments.out)
        if is_first_process():
            print(f"{len(files)} captions: {arguments.out}")
    return 0


def _generate(arguments: argparse.Namespace) -> int:
    from .pair.bulk import generate_files, read_prompts
    from .pair.distributed import device_of_process, is_first_process
    from .pair.loading import load_pair, pair_identity

    prompts = [*arguments.prompts, *(text for file in arguments.captions for text in read_prompts(file))]
    if not prompts:
        raise ValueError("there is nothing to generate; give texts, or files of them with --captions")
    pair = load_pair(arguments.pair, device=device_of_process(arguments.device))
    seeds = range(arguments.seed, arguments.seed + len(prompts))
    files = generate_files(prompts, seeds, pair.generator, arguments.out, identity=pair_identity(pair)[1])
    if is_first_process():
        print("\n".join(f"{file}\t{text}" for file, text in zip(files, prompts, strict=True)))
    return 0


def _pretrain(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from .pretraining import PHOTOS, PHOTOS_ON_GPU, Recipe, photos_domain, pretrain
    from .streams.named import fraction

    chosen = {"device": arguments.device}
    for name in ("captioner_steps", "autoencoder_steps", "diffusion_steps", "distillation_steps"):
        if getattr(arguments, name) is not None:
            chosen[name] = getattr(arguments, name)
    if arguments.images is None:
        of_images = {
            "--size": arguments.size,
            "--part": arguments.part != "1/1",
            "--no-mirror": arguments.no_mirror,
            "--skip-damaged": arguments.skip_damaged,
        }
        given = [name for name, value in of_images.items() if value]
        if given:
            raise ValueError(f"{', '.join(given)} is for images of your own; give their folder with --images")
        pretrain(arguments.out, recipe=replace(Recipe(), **chosen))
    else:
        domain = photos_domain(
            arguments.images,
            size=arguments.size,
            part=fraction(arguments.part),
            mirror=not arguments.no_mirror,
            skip_damaged=arguments.skip_damaged,
        )
        side = 8 * -(-max(domain.format.size) // 8)  # latents come in whole pixels
        photos = PHOTOS_ON_GPU if arguments.device.startswith("cuda") else PHOTOS
        # Large batches are for small images.
        chosen["batch_size"] = max(PHOTOS.batch_size, int(photos.batch_size * min(1, 32 / side) ** 2))
        pretrain(arguments.out, domains=[domain], recipe=replace(photos, side=side, **chosen))
    return 0


if __name__ == "__main__":
    sys.exit(main())
