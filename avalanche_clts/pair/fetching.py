"""Bringing a pair's files into the local cache, those that are loaded and no others, so that it works offline."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .captioners import AutoCaptioner
from .catalogue import CAPTIONERS, GENERATORS
from .composition import Plans, captioner_part, generator_parts, require_generator
from .fitting import require_lora
from .generators import DiffusionGenerator
from .loading import arguments_of_part, pair_arguments
from .parts import Kind, Part
from .plans import Plan, bring, require_room, survey_here, survey_hub
from .repositories import Listing, cache_folder, hub_listing, is_repository


def fetch(
    name: str,
    *,
    captioner: Mapping[str, Any] | None = None,
    generator: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    say: Callable[[str], object] = print,
) -> list[Plan]:
    """Download what a pair loads, and nothing beside it; afterwards the same pair works under `HF_HUB_OFFLINE=1`.

    Before anything large is downloaded it is said how large it is, and everything that could go wrong is looked at:
    access, room on the disk, extras, and whether the parts fit each other. What is there already is not fetched again.

    **Arguments:**

    - name: as `load_pair` takes it; or a captioner, generator, autoencoder or LoRA alone, as owner/name, with
        "@REVISION" behind it to pin a revision, or by its name in the catalogue.
    - captioner, generator: arguments in the place of the pair's own, as `load_pair` takes them: what is loaded depends
        on some.
    - dry_run: whether to stop when all has been said.
    - say: is given each line of the account.

    Raises `MissingWeightsError` for what cannot be had or has no room, `ValueError` for what does not fit, and
    `ImportError` without an extra that the pair needs.
    """
    plans, arguments = _planned(name, captioner, generator)
    for kind, plan in plans.items():
        say(_account(kind, plan))
    fetched = sum(plan.absent_nbytes for plan in plans.values())
    say(f"to download: {_gigabytes(fetched)}; room: {_gigabytes(_room())} in {cache_folder()}")
    if "generator" in plans:
        require_generator(plans, arguments)
    require_room(list(plans.values()))
    if dry_run:
        return list(plans.values())
    bring(list(plans.values()))
    here = {kind: survey_here(plan.part) for kind, plan in plans.items()}
    if "lora" in here and "generator" in here:
        require_lora(here["generator"], here["lora"])
    say(f"{name} is complete: with HF_HUB_OFFLINE=1 it is loaded as it is now")
    return list(here.values())


def _planned(
    name: str, captioner: Mapping[str, Any] | None, generator: Mapping[str, Any] | None
) -> tuple[Plans, dict[str, Any]]:
    """The parts that `name` names, and the generator's arguments."""
    text, _, revision = name.partition("@")
    entry = CAPTIONERS.get(text) or GENERATORS.get(text)
    if "+" in name or Path(name).is_dir() or (entry is None and not is_repository(text)):
        for_captioner, for_generator = pair_arguments(name, captioner, generator)
        parts: dict[Kind, Part] = {"captioner": captioner_part(for_captioner), **generator_parts(for_generator)}
    elif entry is not None:
        own = entry.arguments | {"revision": revision or None}
        if text in CAPTIONERS:
            for_generator = arguments_of_part("captioner", AutoCaptioner, text, own, captioner)
            parts = {"captioner": captioner_part(for_generator)}
        else:
            for_generator = arguments_of_part("generator", DiffusionGenerator, text, own, generator)
            parts = generator_parts(for_generator)
    else:
        kind = _kind(hub_listing(text, revision or None))
        own = {"name_or_path": text, "revision": revision or None}
        for_generator = arguments_of_part("generator", DiffusionGenerator, text, own, generator)
        file = for_generator.get("lora_weight_name") if kind == "lora" else None
        alone = Part(kind, text, revision or None, weight_name=file)
        parts = generator_parts(for_generator) if kind == "generator" else {kind: alone}
    return {kind: survey_hub(part) for kind, part in parts.items()}, for_generator


def _kind(listing: Listing) -> Kind:
    """What a repository holds, by its files."""
    if "model_index.json" in listing.sizes:
        return "generator"
    config = listing.json("config.json")
    if "model_type" in config:
        return "captioner"
    return "autoencoder" if "_class_name" in config else "lora"


def _account(kind: Kind, plan: Plan) -> str:
    formats = {Path(path).suffix for path in plan.files} & {".safetensors", ".bin"}
    beside = sum(plan.listing.sizes.values()) - plan.nbytes
    told = [
        f"{len(plan.files)} files, {_gigabytes(plan.nbytes)} ({_gigabytes(plan.absent_nbytes)} not here yet)",
        " and ".join(sorted(formats)),
    ]
    if plan.listing.commit is not None:
        told.append(f"{_gigabytes(beside)} beside them are left there")
        told.append(f"licence: {plan.listing.licence or 'none named'}")
    return f"{kind}: {plan.pinned}: {'; '.join(told)}"


def _room() -> int:
    folder = cache_folder()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _gigabytes(nbytes: int) -> str:
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes} bytes"
