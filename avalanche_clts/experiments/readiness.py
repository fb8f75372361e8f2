"""What is looked at before anything is loaded or built: names, the folders that are to be written, an account."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .._support.accounts import require_account, require_wandb
from .._support.console import shown
from ..pair.loading import pair_arguments
from ..streams.lookalikes import TRAIN
from ..streams.named import parse_stream
from .experiment import Experiment
from .variants import ABLATIONS


def require_known(experiment: Experiment) -> None:
    """Raise `ValueError` or `OSError` for a stream's folder that is not there, a pair of an unknown name or with
    arguments that its parts do not take, and an unknown ablation."""
    parse_stream(experiment.stream).require_there()
    pair_arguments(experiment.pair, experiment.captioner, experiment.generator)
    unknown = [name for name in experiment.ablations or () if name not in ABLATIONS]
    if unknown:
        raise ValueError(f"ablations has {', '.join(unknown)}; known ablations: {', '.join(ABLATIONS)}")


def require_places(experiment: Experiment, out: Path, image_cache: Path | None) -> None:
    """Raise `OSError` for a folder of results, or of images, that can be neither made nor written, and `ValueError` for
    one that would be taken for a class of the stream's images, or for a folder of results whose name is not UTF-8,
    which TensorBoard's files cannot be written to."""
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise ValueError(f"out is {str(out)!r}, a name that is not UTF-8; choose another folder") from None
    for name, folder in (("out", out), ("image_cache", image_cache)):
        root = None if folder is None else _class_folders_around(folder, experiment.stream)
        if root is not None:
            raise ValueError(
                f"{name} is {str(folder)!r}, inside the folder of images {shown(root)}, where it would be taken for a "
                "class; choose another folder"
            )
    reason = _why_not(out)
    if reason is not None:
        raise OSError(f"cannot write to {out} ({reason}); choose another folder with --out")
    reason = None if image_cache is None else _why_not(image_cache)
    if reason is not None:
        raise OSError(f"image_cache is {str(image_cache)!r}, which cannot be written ({reason}); give another folder")


def _class_folders_around(folder: Path, stream: str) -> Path | None:
    """The folder of class folders, of those that a stream is read from, in which another folder would be read too."""
    options = parse_stream(stream).options
    root = options.get("root")
    if root is None:
        return None
    inside = folder.resolve()
    roots = [Path(root)] if "domains" not in options else [path for path in Path(root).iterdir() if path.is_dir()]
    for place in roots:
        is_split = any(path.is_dir() and path.name.lower() in TRAIN for path in place.iterdir())
        around = place.resolve()
        below = inside.relative_to(around).parts if inside.is_relative_to(around) else (".",)
        if not is_split and not any(part.startswith(".") for part in below):  # what is hidden is not read
            return place
    return None


def require_wandb_account(project: str) -> None:
    """Raise `ImportError` or `ValueError` unless runs can be logged to a project on Weights & Biases."""
    require_wandb()
    require_account("wandb", project)


def _why_not(folder: Path) -> str | None:
    """Why a folder cannot be written, or made; None if nothing speaks against it."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir():
        return os.strerror(errno.ENOTDIR)
    return None if os.access(nearest, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
