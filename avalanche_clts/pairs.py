"""A captioner and a generator that understand each other."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .captioners import BlipCaptioner, Captioner
from .generators import DiffusionGenerator, Generator
from .weights import MissingWeightsError

if TYPE_CHECKING:
    import torch

_EMBEDDED = Path(__file__).parent / "assets" / "pair"
_BLIP: dict[str, Any] = {
    "name_or_path": "Salesforce/blip-image-captioning-base",
    "prefix": "a photo of a {class_name}",
}
# Name -> arguments of the captioner and of the generator.
_PRETRAINED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "blip+sd15": (
        _BLIP,
        {
            "name_or_path": "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "steps": 25,
            "guidance_scale": 2.0,
            "batch_size": 16,
        },
    ),
    "blip+sd-turbo": (
        _BLIP,
        {"name_or_path": "stabilityai/sd-turbo", "steps": 1, "guidance_scale": 0.0, "batch_size": 16},
    ),
}


class Pair(NamedTuple):
    """What writes the captions, and what turns them back into images."""

    captioner: Captioner
    generator: Generator


def load_pair(
    name_or_path: str | os.PathLike[str], *, device: str | torch.device = "cpu", offload: str | None = None
) -> Pair:
    """A captioner and a generator, by name or from a folder.

    **Arguments:**

    - name_or_path: "embedded" (ships with the package, works offline, knows handwritten digits), "blip+sd15",
        "blip+sd-turbo", or a folder with `captioner/` (a BLIP checkpoint), `generator/` (a diffusers pipeline) and,
        optionally, `pair.json` with arguments for both.
    - device: where both run.
    - offload: where the generator waits between calls; see `DiffusionGenerator`.

    Raises `MissingWeightsError` (an `OSError`) if a part is not there, not whole, or cannot be fetched, and
    `ValueError` for a name that is neither known nor a folder.
    """
    name = os.fspath(name_or_path)
    if name in _PRETRAINED:
        captioner, generator = _PRETRAINED[name]
        return Pair(
            BlipCaptioner(**captioner, device=device), DiffusionGenerator(**generator, device=device, offload=offload)
        )
    folder = _EMBEDDED if name == "embedded" else Path(name)
    if not folder.is_dir():
        known = ", ".join(["embedded", *_PRETRAINED])
        raise ValueError(f"name_or_path is {name!r}; it must be a folder or one of: {known}")
    arguments = _arguments(folder / "pair.json")
    return Pair(
        BlipCaptioner(folder / "captioner", **arguments.get("captioner", {}), device=device),
        DiffusionGenerator(folder / "generator", **arguments.get("generator", {}), device=device, offload=offload),
    )


def _arguments(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    try:
        arguments = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MissingWeightsError(f"{path} is damaged or truncated ({error}); copy it again") from None
    if not isinstance(arguments, dict):
        raise MissingWeightsError(f"{path} must hold an object with the arguments of captioner and generator")
    return arguments


def pair_nbytes(pair: Pair) -> int | None:
    """Bytes of the pair's weights on disk, 0 for a part without weights; None where they are not on disk."""
    folders = [_folder(part) for part in pair if hasattr(part, "name_or_path")]
    if not all(folders):
        return None
    return sum(file.stat().st_size for folder in folders if folder for file in folder.rglob("*.safetensors"))


def pair_identity(pair: Pair) -> list[str]:
    """What tells two pairs apart: name and revision on the hub, or a digest of a folder's configuration and weights."""
    return [_identity(part) for part in pair]


def _identity(part: Any) -> str:
    name = getattr(part, "name_or_path", None)
    if name is None:
        return f"{type(part).__name__} {getattr(part, 'template', '')}".strip()
    if not Path(name).is_dir():
        return f"{name}@{part.revision or 'main'}"
    digest = hashlib.sha256()
    for file in sorted(Path(name).rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(name)} {file.stat().st_size}".encode())
            with file.open("rb") as content:
                digest.update(content.read(2**20))  # a retrained checkpoint differs from its first weights on
    return f"{Path(name).name} sha256:{digest.hexdigest()[:16]}"


def _folder(part: Any) -> Path | None:
    if Path(part.name_or_path).is_dir():
        return Path(part.name_or_path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(part.name_or_path, revision=part.revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
