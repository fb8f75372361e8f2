"""A captioner and a generator that understand each other."""

from __future__ import annotations

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
        {"name_or_path": "stable-diffusion-v1-5/stable-diffusion-v1-5", "steps": 25, "guidance_scale": 2.0,
         "batch_size": 16},
    ),
    "blip+sd-turbo": (
        _BLIP,
        {"name_or_path": "stabilityai/sd-turbo", "steps": 1, "guidance_scale": 0.0, "batch_size": 16},
    ),
}  # fmt: skip


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


def pair_nbytes(pair: Pair) -> int:
    """Bytes of the pair's weights on disk; 0 for parts that have none, or that are not on disk yet."""
    total = 0
    for part in pair:
        folder = Path(getattr(part, "name_or_path", ""))
        if folder.is_absolute() and folder.is_dir():
            total += sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    return total
