"""What is looked at before anything is loaded or built: names, the folders that are to be written, an account."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .._support.accounts import require_account, require_wandb
from ..pair.loading import pair_arguments
from ..streams.layouts import require_no_class
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
        for root in _class_folders(experiment.stream):
            if folder is not None:
                require_no_class(name, folder, root)
    reason = _why_not(out)
    if reason is not None:
        raise OSError(f"cannot write to {out} ({reason}); choose another folder with --out")
    reason = None if image_cache is None else _why_not(image_cache)
    if reason is not None:
        raise OSError(f"image_cache is {str(image_cache)!r}, which cannot be written ({reason}); give another folder")


def _class_folders(stream: str) -> list[Path]:
    """The folders of class folders, or of a split into train and test, that a stream is read from."""
    options = parse_stream(stream).options
    root = options.get("root")
    if root is None:
        return []
    return [Path(root)] if "domains" not in options else [path for path in Path(root).iterdir() if path.is_dir()]


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
