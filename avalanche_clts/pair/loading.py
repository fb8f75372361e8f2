"""A captioner and a generator that understand each other."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .._support.checks import require_method
from .._support.files import files_below
from .captioners import AutoCaptioner, BlipCaptioner, Captioner
from .catalogue import CAPTIONERS, GENERATORS, PREFIX, Checkpoint
from .composition import LOADING, Plans, brought, captioner_part, generator_parts, require_generator
from .decoding import Decoding
from .devices import require_device
from .embedded import EMBEDDED, pair_folder
from .generators import DiffusionGenerator, Generator
from .parts import Kind, Part
from .plans import survey, survey_here
from .repositories import is_repository
from .weights import MissingWeightsError, telling_bytes

if TYPE_CHECKING:
    import torch


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

    - name_or_path: "embedded", which knows handwritten 8x8 digits and drawn shapes, or "embedded-mnist-blood", which
        knows MNIST's digits and peripheral blood cells: both ship with the package and work offline; or
        CAPTIONER+GENERATOR, such as "blip+sd15", either one that `clts pairs` lists, a repository on the hub
        (owner/name), a checkpoint's folder, or the folder of a pair, of which its part is taken; with "@REVISION"
        behind a name or a repository to pin a revision on the hub; or a folder with `captioner/` (an image-to-text
        checkpoint), `generator/` (a diffusers pipeline) and, optionally, `pair.json` with arguments for both.
    - device: where both run.
    - offload: where the generator waits between calls; see `DiffusionGenerator`.
    - captioner: arguments of `AutoCaptioner` in the place of the pair's own, such as `{"max_new_tokens": 50}`.
    - generator: arguments of `DiffusionGenerator` in the place of the pair's own, such as
        `{"steps": 10, "batch_size": 8}`.

    What is not on this machine is fetched now, once everything that can be known before has been looked at.

    Raises `MissingWeightsError` (an `OSError`) if a part is not there, not whole, or cannot be fetched; `ValueError`
    for a name that is neither known nor a folder, for an argument that a part does not take, and for a variant,
    scheduler, autoencoder, low-rank weights or device that do not fit or are not there; and `ImportError` without an
    extra that a part needs.
    """
    name = os.fspath(name_or_path)
    arguments = pair_arguments(name, captioner, generator)
    for part, options in ((0, {"device": device}), (1, {"device": device, "offload": offload})):
        arguments[part].update(options | arguments[part])
    require_device("device", device)
    plans = pair_plans(arguments, pair=name)
    brought(plans)
    described = plans["captioner"].listing.json("config.json").get("model_type")
    return Pair(
        (BlipCaptioner if described == "blip" else AutoCaptioner)(**arguments[0]),
        DiffusionGenerator(**arguments[1]),
    )


def pair_plans(arguments: Sequence[Mapping[str, Any]], *, pair: str) -> Plans:
    """What is loaded of a captioner and a generator of these arguments, if it can be had and fits together.

    **Arguments:**

    - pair: their name, for messages.

    Raises what `load_pair` raises.
    """
    parts: dict[Kind, Part] = {"captioner": captioner_part(arguments[0]), **generator_parts(arguments[1])}
    plans: Plans = {kind: survey(part, pair=pair) for kind, part in parts.items()}
    require_generator(plans, arguments[1])
    return plans


def pair_arguments(
    name: str, captioner: Mapping[str, Any] | None = None, generator: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of `AutoCaptioner` and `DiffusionGenerator` that a pair's name stands for.

    **Arguments:** those of `load_pair`. Raises `ValueError` and `MissingWeightsError` as it does.
    """
    folder = pair_folder(name)
    if folder.is_dir():
        source = str(folder / "pair.json")
        own = _of_folder(folder)
    else:
        source = f"the catalogue's {name}"
        own = _of_name(name)
    return (
        arguments_of_part("captioner", AutoCaptioner, source, own[0], captioner),
        arguments_of_part("generator", DiffusionGenerator, source, own[1], generator),
    )


def _of_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    arguments = _arguments(folder / "pair.json")
    own = [{"name_or_path": folder / part} | arguments.get(part, {}) for part in ("captioner", "generator")]
    return own[0], own[1]


def arguments_of_part(
    part: str, kind: type, source: str, own: dict[str, Any], chosen: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Arguments of a part: its own, and those that were chosen in their place. What it says of low-rank weights or an
    autoencoder goes with these. Raises `ValueError` for one that it does not take."""
    if chosen is not None and not isinstance(chosen, Mapping):
        raise TypeError(f"{part} is {chosen!r}; it must be a dict of arguments of {kind.__name__}")
    known = list(inspect.signature(kind).parameters)
    for origin, arguments in ((source, own), (f"{part}=", chosen or {})):
        for name in arguments:
            if name not in known:
                raise ValueError(f"{origin} has {name!r}; arguments of {kind.__name__} are: {', '.join(known)}")
    replaced = [name for name in ("lora", "autoencoder") if name in (chosen or {})]
    kept = {name: value for name, value in own.items() if name.partition("_")[0] not in replaced}
    return kept | dict(chosen or {})


def composed(name: str, captioner: str | None = None, generator: str | None = None) -> str:
    """The name of a pair with another captioner or generator.

    ```python
    from avalanche_clts.pair.loading import composed

    assert composed("blip+sd15", generator="stabilityai/sd-turbo") == "blip+stabilityai/sd-turbo"
    ```

    **Arguments:**

    - name: of a pair, as `load_pair` takes it; its parts are those that are not given.
    - captioner, generator: either one by its name, repository or folder. None: the pair's own.

    Raises `ValueError` for what is none of these.
    """
    if captioner is None and generator is None:
        return name
    given: list[tuple[Literal["captioner", "generator"], str | None, dict[str, Checkpoint]]] = [
        ("captioner", captioner, CAPTIONERS),
        ("generator", generator, GENERATORS),
    ]
    for part, text, known in given:
        if text is not None and _of_part(part, text) is None:
            raise ValueError(
                f"{part} is {text!r}; it must be one of {', '.join(known)}, or owner/name on the hub, or a folder"
            )
    own = (name, name) if pair_folder(name).is_dir() or None not in (captioner, generator) else None
    first, second = own or _parts_of(name)
    return f"{first if captioner is None else captioner}+{second if generator is None else generator}"


def _of_name(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the captioner and of the generator that `name` names."""
    captioner, generator = _parts_of(name)
    return _of_part("captioner", captioner) or {}, _of_part("generator", generator) or {}


def _parts_of(name: str) -> tuple[str, str]:
    """The names of the captioner and of the generator in that of a pair."""
    pieces = name.split("+")
    for cut in range(1, len(pieces)):  # a folder's name may have a + in it
        captioner, generator = "+".join(pieces[:cut]), "+".join(pieces[cut:])
        if _of_part("captioner", captioner) is not None and _of_part("generator", generator) is not None:
            return captioner, generator
    raise ValueError(
        f"name_or_path is {name!r}; it must be {', '.join(EMBEDDED)}, a folder, or CAPTIONER+GENERATOR such as "
        f"blip+sd15 (captioners: {', '.join(CAPTIONERS)}; generators: {', '.join(GENERATORS)}; or owner/name on the "
        "hub, or a folder, in the place of either)"
    )


def _of_part(part: Literal["captioner", "generator"], text: str) -> dict[str, Any] | None:
    """Arguments that a part's name, repository or folder stands for; None if it is nothing of these."""
    name, _, revision = text.partition("@")
    known = CAPTIONERS if part == "captioner" else GENERATORS
    named = {entry.arguments["name_or_path"]: entry.arguments for entry in reversed(known.values())}
    if name in known:
        return known[name].arguments | {"revision": revision or None}
    folder = pair_folder(text)
    if text and (folder / part).is_dir():
        return _of_folder(folder)[0 if part == "captioner" else 1]
    unnamed = {"prefix": PREFIX} if part == "captioner" else {}
    if text and folder.is_dir():
        return {"name_or_path": text} | unnamed
    if is_repository(name):
        return named.get(name, {"name_or_path": name} | unnamed) | {"revision": revision or None}
    return None


def _arguments(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    try:
        arguments = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise MissingWeightsError(f"{path} is damaged or truncated ({error}); copy it again") from None
    if not isinstance(arguments, dict) or not all(isinstance(part, dict) for part in arguments.values()):
        raise MissingWeightsError(
            f"{path} must hold an object with the objects captioner and generator, their arguments"
        )
    unknown = sorted(arguments.keys() - {"captioner", "generator"})
    if unknown:
        raise ValueError(f"{path} has {unknown[0]!r}; it may have captioner and generator, arguments of either")
    return arguments


def pair_nbytes(pair: Pair) -> int | None:
    """Bytes of the weights that the pair loads, as they are on disk: those of every part, a safety checker's among
    them, and no others that lie beside them. 0 for a part without weights, None where that is not known.

    Of a part that was given loaded, the bytes in memory.
    """
    counts = [part_nbytes(part) for part in pair]
    return None if None in counts else sum(count or 0 for count in counts)


def named_pair_nbytes(name: str) -> int:
    """As `pair_nbytes`, of the pair of that name, whose files are looked at and not loaded.

    Raises `MissingWeightsError` if they are not on this machine.
    """
    captioner, generator = pair_arguments(name)
    parts: dict[Kind, Part] = {"captioner": captioner_part(captioner), **generator_parts(generator)}
    return sum(survey_here(part).weight_nbytes for part in parts.values())


def part_nbytes(part: Any) -> int | None:
    """As `pair_nbytes`, of a captioner or a generator alone."""
    part = _wrapped(part)
    given = given_modules(part)
    if given is not None:
        tensors = {id(t): t for module in given.values() for t in [*module.parameters(), *module.buffers()]}
        return sum(t.nbytes for t in tensors.values())
    plans = _plans_of(part)
    return None if plans is None else sum(plan.weight_nbytes for plan in plans.values())


def pair_identity(pair: Pair) -> list[str]:
    """What tells two pairs apart: name and commit on the hub, or a digest of a folder's configuration and weights, or
    of what was given loaded; and the arguments that captions and images depend on."""
    return [" ".join([_identity(part), *_chosen(part)]) for part in pair]


def _wrapped(part: Any) -> Any:
    """What a cache of images, which is told apart by its generator, has them made by."""
    return _wrapped(part.wraps) if hasattr(part, "wraps") else part


def _chosen(part: Any) -> list[str]:
    part = _wrapped(part)
    names = ("prefix", "prompt", "max_new_tokens", "variant", "steps", "guidance_scale", "height", "width", "scheduler")
    values = {name: getattr(part, name, None) for name in names}
    decoding = getattr(part, "decoding", None)
    values["decoding"] = None if decoding == Decoding() else decoding
    values["decoder"] = None if getattr(part, "decoder", None) == "autoencoder" else getattr(part, "decoder", None)
    values["safety_checker"] = None if getattr(part, "safety_checker", True) else False
    plans = _plans_of(part) or {}
    beside = {
        kind: _identity_of_folder(plan.folder, plan.files if kind == "lora" else None)
        if plan.listing.commit is None
        else " ".join([plan.pinned, *(plan.files if kind == "lora" else ())])
        for kind, plan in plans.items()
        if kind in ("lora", "autoencoder")
    }
    return [f"{name}={value!r}" for name, value in (values | beside).items() if value is not None]


def _identity(part: Any) -> str:
    told = getattr(part, "identity", None) if hasattr(part, "wraps") else None
    if told is not None:  # by whoever knows what its images depend on
        return f"{type(_wrapped(part)).__name__} {told}"
    part = _wrapped(part)
    name = getattr(part, "name_or_path", None)
    if name is None:
        return f"{type(part).__name__} {getattr(part, 'template', '')}".strip()
    given = given_modules(part)
    if given is not None:
        return f"{name} sha256:{_digest_of_modules(given, part.given)}"
    if Path(name).is_dir():
        return _identity_of_folder(Path(name))
    plans = _plans_of(part)
    if plans is None:
        return f"{name}@{getattr(part, 'revision', None) or 'main'}"
    return next(iter(plans.values())).pinned


def _identity_of_folder(folder: Path, chosen: Iterable[str] | None = None) -> str:
    """Of all files in it, or of those that are `chosen`, where a folder has several of a kind."""
    digest = hashlib.sha256()
    for file in files_below(folder) if chosen is None else sorted(folder / path for path in chosen):
        if file.is_file():
            digest.update(f"{file.relative_to(folder)} {file.stat().st_size}".encode())
            for some in telling_bytes(file):
                digest.update(some)
    return f"{folder.name} sha256:{digest.hexdigest()[:16]}"


def _digest_of_modules(modules: Mapping[str, Any], components: Mapping[str, Any]) -> str:
    """Of the first values of each weight, as for files, of scheduler and low-rank weights as they are set, and of which
    parts there are."""
    scheduler = components.get("scheduler")
    config = sorted(dict(getattr(scheduler, "config", {})).items())
    digest = hashlib.sha256(f"{type(scheduler).__name__} {config!r} {sorted(modules)}".encode())
    for part, module in sorted(modules.items()):
        for name, layer in module.named_modules():
            if isinstance(scales := getattr(layer, "scaling", None), dict):
                off = getattr(layer, "disable_adapters", False)
                active = [] if off else getattr(layer, "active_adapters", [])
                digest.update(f"{part} {name} {sorted(scales.items())} {active}".encode())
        for name, tensor in module.state_dict().items():
            digest.update(f"{part} {name} {tuple(tensor.shape)}".encode())
            if not tensor.is_meta:
                digest.update(tensor.flatten()[:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def given_modules(part: Any) -> dict[str, Any] | None:
    """The models, by name, of a part that its maker had already loaded; None for any other part."""
    import torch

    given = getattr(part, "given", None)
    if not isinstance(given, Mapping):
        return None
    return {name: module for name, module in given.items() if isinstance(module, torch.nn.Module)}


def _plans_of(part: Any) -> Plans | None:
    """What the part loads, as it is on this machine; None where nothing of it is there."""
    arguments = {name: getattr(part, name, None) for name in LOADING}
    if arguments["name_or_path"] is None:
        return {}
    arguments["safety_checker"] = arguments["safety_checker"] is not False
    is_captioner = hasattr(part, "caption")
    parts: dict[Kind, Part] = {"captioner": captioner_part(arguments)} if is_captioner else generator_parts(arguments)
    try:
        return {kind: survey_here(checkpoint) for kind, checkpoint in parts.items()}
    except (MissingWeightsError, ValueError):
        return None
