"""The command that trains a pair from nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add it to a parser's commands."""
    pretrain = commands.add_parser("pretrain", help="train a pair from nothing")
    pretrain.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the pair")
    pretrain.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="class subfolders, or metadata.jsonl (default: 8x8 digits and shapes)",
    )
    pretrain.add_argument("--size", type=int, metavar="N", help="side that the images are brought to, in pixels")
    pretrain.add_argument(
        "--no-mirror", action="store_true", help="do not learn from mirrored images as well: letters, left and right"
    )
    pretrain.add_argument("--skip-damaged", action="store_true", help="go on without files that cannot be opened")
    pretrain.add_argument("--part", default="1/1", metavar="K/N", help="learn from the K-th of N parts of the images")
    for part in ("captioner", "feature", "autoencoder", "diffusion", "distillation"):
        pretrain.add_argument(f"--{part}-steps", type=int, metavar="N", help="optimizer steps of this part")
    pretrain.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    pretrain.set_defaults(run=_pretrain)


def _pretrain(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from ..pretraining import PHOTOS, PHOTOS_ON_GPU, Recipe, photos_domain, pretrain, require_own_folder
    from ..streams.kinds import fraction
    from ..streams.layouts import require_no_class

    require_own_folder(arguments.out)
    images: Path | None = arguments.images
    if images is not None and images.is_dir() and not (images / "metadata.jsonl").exists():
        require_no_class("out", arguments.out, images)
    chosen = {"device": arguments.device}
    for name in ("captioner_steps", "feature_steps", "autoencoder_steps", "diffusion_steps", "distillation_steps"):
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
