"""The commands that use a pair for its own sake, caption and generate, and the list of pairs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .parts import add_parts, arguments_of_parts, pair_name

if TYPE_CHECKING:
    from ..pair.loading import Pair


def add_commands(commands: Any) -> None:
    """Add them to a parser's commands."""
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


def _add_pair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pair", default="embedded", help="pair of captioner and generator: a name or a folder")
    add_parts(parser)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")


def _load(arguments: argparse.Namespace) -> Pair:
    from ..pair.distributed import device_of_process
    from ..pair.loading import load_pair

    chosen = arguments_of_parts(arguments.set)
    return load_pair(
        pair_name(arguments.pair, arguments),
        device=device_of_process(arguments.device),
        captioner=chosen["captioner"],
        generator=chosen["generator"],
    )


def _pairs(arguments: argparse.Namespace) -> int:
    from ..experiments.page.table import format_columns, human_bytes
    from ..pair.catalogue import CAPTIONERS, GENERATORS
    from ..pair.embedded import EMBEDDED
    from ..pair.loading import named_pair_nbytes

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
    embedded = [
        f"--pair {name}: {human_bytes(named_pair_nbytes(name))}; it knows {EMBEDDED[name].knows}" for name in EMBEDDED
    ]
    print(
        """--pair CAPTIONER+GENERATOR, such as blip+sd-turbo; behind either, @REVISION pins a revision on the hub.
Weights are in half precision; beside them the device needs memory for a batch (batch_size makes it less).
These ship with the package, and need no network and no GPU:""",
        *embedded,
        sep="\n",
    )
    return 0


def _caption(arguments: argparse.Namespace) -> int:
    from ..images.files import require_readable
    from ..pair.bulk import caption_files, captions_of, image_files, require_captions_file
    from ..pair.distributed import is_first_process
    from ..pair.loading import pair_identity

    files = image_files(arguments.images)
    require_readable(files)
    if arguments.out is not None:
        require_captions_file(arguments.out, files)
    pair = _load(arguments)
    captioner = pair.captioner
    if arguments.out is None:
        for batch, texts in captions_of(files, captioner):
            print("\n".join(f"{files[i]}\t{text}" for i, text in zip(batch, texts, strict=True)))
    else:
        caption_files(files, captioner, arguments.out, identity=pair_identity(pair)[0])
        if is_first_process():
            print(f"{len(files)} captions: {arguments.out}")
    return 0


def _generate(arguments: argparse.Namespace) -> int:
    from ..pair.bulk import generate_files, read_prompts, require_generated_folder
    from ..pair.distributed import is_first_process
    from ..pair.loading import pair_identity

    prompts = [*arguments.prompts, *(text for file in arguments.captions for text in read_prompts(file))]
    if not prompts:
        raise ValueError("there is nothing to generate; give texts, or files of them with --captions")
    require_generated_folder(arguments.out)
    pair = _load(arguments)
    seeds = range(arguments.seed, arguments.seed + len(prompts))
    files = generate_files(prompts, seeds, pair.generator, arguments.out, identity=pair_identity(pair)[1])
    if is_first_process():
        print("\n".join(f"{file}\t{text}" for file, text in zip(files, prompts, strict=True)))
    return 0
