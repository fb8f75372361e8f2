"""A captioner and a generator that understand each other."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .._support.checks import require_method
from .captioners import AutoCaptioner, BlipCaptioner, Captioner
from .catalogue import CAPTIONERS, GENERATORS
from .decoding import Decoding
from .generators import DiffusionGenerator, Generator
from .weights import MissingWeightsError, read_json

if TYPE_CHECKING:
    import torch

_EMBEDDED = Path(__file__).parents[1] / "assets" / "pair"


class Pair(NamedTuple):
    """What writes the captions, and what turns them back into images.

    ```python
    pair = Pair(
        captioner=BlipCaptioner("my-pair/captioner", max_new_tokens=20),
        generator=DiffusionGenerator("my-pair/generator", steps=2, guidance_scale=1.0),
    )
    ```
    """

    captioner: Captioner
    generator: Generator


def require_pair(pair: Any) -> None:
    """Raise `TypeError` unless `pair` is a captioner and a generator."""
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise TypeError(f"pair is {pair!r}; give load_pair(...), or Pair(captioner, generator)")
    require_method("pair's captioner", pair[0], "caption", "a Captioner, such as BlipCaptioner()")
    require_method("pair's generator", pair[1], "generate", "a Generator, such as DiffusionGenerator()")


def load_pair(
    name_or_path: str | os.PathLike[str],
    *,
    device: str | torch.device = "cpu",
    offload: str | None = None,
    captioner: Mapping[str, Any] | None = None,
    generator: Mapping[str, Any] | None = None,
) -> Pair:
    """A captioner and a generator, by name or from a folder.

    ```python
    pair = load_pair("embedded")
    pair = load_pair("my-pair", captioner={"max_new_tokens": 20}, generator={"batch_size": 32})
    # load_pair("blip+sd-turbo", device="cuda", offload="cpu"): from the hub, on a GPU
    ```

    **Arguments:**

    - name_or_path: "embedded" (ships with the package, works offline, knows handwritten digits and drawn shapes); or
        CAPTIONER+GENERATOR, such as "blip+sd15" or "blip-large+sd-turbo", of those that `clts pairs` lists, each with
        "@REVISION" behind its name to pin a revision on the hub; or a folder with `captioner/` (an image-to-text
        checkpoint), `generator/` (a diffusers pipeline) and, optionally, `pair.json` with arguments for both.
    - device: where both run.
    - offload: where the generator waits between calls; see `DiffusionGenerator`.
    - captioner: arguments of `AutoCaptioner` in the place of the pair's own, such as `{"max_new_tokens": 50}`.
    - generator: arguments of `DiffusionGenerator` in the place of the pair's own, such as
        `{"steps": 10, "batch_size": 8}`.

    Raises `MissingWeightsError` (an `OSError`) if a part is not there, not whole, or cannot be fetched, and
    `ValueError` for a name that is neither known nor a folder and for an argument that a part does not take.
    """
    name = os.fspath(name_or_path)
    folder = _EMBEDDED if name == "embedded" else Path(name)
    if folder.is_dir():
        source = str(folder / "pair.json")
        arguments = _arguments(folder / "pair.json")
        own = [{"name_or_path": folder / part} | arguments.get(part, {}) for part in ("captioner", "generator")]
    else:
        source = f"the catalogue's {name}"
        own = _from_the_hub(name)
    for_captioner = _merged("captioner", AutoCaptioner, source, own[0] | {"device": device}, captioner)
    for_generator = _merged(
        "generator", DiffusionGenerator, source, own[1] | {"device": device, "offload": offload}, generator
    )
    return Pair(
        _captioner_class(for_captioner["name_or_path"])(**for_captioner),
        DiffusionGenerator(**for_generator),
    )


def _merged(
    part: str, kind: type, source: str, own: dict[str, Any], chosen: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Arguments of a part: its own, and those that were chosen in their place."""
    if chosen is not None and not isinstance(chosen, Mapping):
        raise TypeError(f"{part} is {chosen!r}; it must be a dict of arguments of {kind.__name__}")
    known = list(inspect.signature(kind).parameters)
    for origin, arguments in ((source, own), (f"{part}=", chosen or {})):
        for name in arguments:
            if name not in known:
                raise ValueError(f"{origin} has {name!r}; arguments of {kind.__name__} are: {', '.join(known)}")
    return own | dict(chosen or {})


def _from_the_hub(name: str) -> list[dict[str, Any]]:
    """Arguments of the captioner and of the generator that `name` names."""
    parts = [part.partition("@") for part in name.split("+")]
    if len(parts) != 2 or parts[0][0] not in CAPTIONERS or parts[1][0] not in GENERATORS:
        raise ValueError(
            f"name_or_path is {name!r}; it must be embedded, a folder, or CAPTIONER+GENERATOR such as blip+sd15 "
            f"(captioners: {', '.join(CAPTIONERS)}; generators: {', '.join(GENERATORS)})"
        )
    (captioner, _, captioner_revision), (generator, _, generator_revision) = parts
    return [
        CAPTIONERS[captioner].arguments | {"revision": captioner_revision or None},
        GENERATORS[generator].arguments | {"revision": generator_revision or None},
    ]


def _captioner_class(name_or_path: str | os.PathLike[str]) -> type[AutoCaptioner]:
    """`BlipCaptioner`, which offers more, unless the checkpoint is known to be of another kind."""
    config = Path(name_or_path) / "config.json"
    if config.is_file():
        kind = read_json(config).get("model_type", "blip")
        return BlipCaptioner if kind == "blip" else AutoCaptioner
    return BlipCaptioner if "/blip-" in os.fspath(name_or_path) else AutoCaptioner


def _arguments(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    try:
        arguments = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MissingWeightsError(f"{path} is damaged or truncated ({error}); copy it again") from None
    if not isinstance(arguments, dict) or not all(isinstance(part, dict) for part in arguments.values()):
        raise MissingWeightsError(
            f"{path} must hold an object with the objects captioner and generator, their arguments"
        )
    return arguments


def pair_nbytes(pair: Pair) -> int | None:
    """Bytes of the pair's weights on disk, 0 for a part without weights; None where they are not on disk."""
    folders = [_folder(part) for part in pair if hasattr(part, "name_or_path")]
    if not all(folders):
        return None
    return sum(file.stat().st_size for folder in folders if folder for file in folder.rglob("*.safetensors"))


def pair_identity(pair: Pair) -> list[str]:
    """What tells two pairs apart: name and revision on the hub, or a digest of a folder's configuration and weights;
    and the arguments that captions and images depend on."""
    return [" ".join([_identity(part), *_chosen(part)]) for part in pair]


def _chosen(part: Any) -> list[str]:
    names = (
        "prefix",
        "max_new_tokens",
        "steps",
        "guidance_scale",
        "height",
        "width",
        "scheduler",
        "lora",
        "autoencoder",
    )
    values = {name: getattr(part, name, None) for name in names}
    decoding = getattr(part, "decoding", None)
    values["decoding"] = None if decoding == Decoding() else decoding
    values["decoder"] = None if getattr(part, "decoder", None) == "autoencoder" else getattr(part, "decoder", None)
    return [f"{name}={value!r}" for name, value in values.items() if value is not None]


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
