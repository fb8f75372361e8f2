"""What a pair loads: a captioner, a pipeline, and the autoencoder and low-rank weights that go into that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._support.checks import require_path, require_whole
from .fitting import (
    require_autoencoder,
    require_linear,
    require_lora,
    require_lora_extra,
    require_pipeline,
    require_scheduler,
    require_size,
    require_steps,
)
from .parts import Kind, Part
from .plans import Plan, bring, survey

STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"

Plans = dict[Kind, Plan]

# The arguments of a `DiffusionGenerator` that say what is loaded.
LOADING = (
    "name_or_path",
    "revision",
    "variant",
    "scheduler",
    "lora",
    "lora_revision",
    "lora_weight_name",
    "autoencoder",
    "autoencoder_revision",
    "safety_checker",
)


def captioner_part(arguments: Mapping[str, Any]) -> Part:
    """The checkpoint that an `AutoCaptioner` of these arguments loads."""
    require_path("name_or_path", arguments["name_or_path"])
    return Part("captioner", os.fspath(arguments["name_or_path"]), arguments.get("revision"))


def generator_parts(arguments: Mapping[str, Any]) -> dict[Kind, Part]:
    """The checkpoints that a `DiffusionGenerator` of these arguments loads.

    Raises `TypeError` for what are no paths, and `ValueError` for what is said of a checkpoint that is not given.
    """
    get = arguments.get
    for name, none in (("name_or_path", STABLE_DIFFUSION), ("lora", "none"), ("autoencoder", "the pipeline's own")):
        require_path(name, get(name), none=none)
    for name in ("lora_revision", "lora_weight_name", "autoencoder_revision"):
        of = name.partition("_")[0]
        if get(name) is not None and get(of) is None:
            raise ValueError(f"{name} is {get(name)!r}, and there is no {of}; give {of} too, or leave it out")
    parts: dict[Kind, Part] = {}
    left_out = set() if get("safety_checker", True) else {"safety_checker"}
    if get("autoencoder") is not None:
        left_out.add("vae")
        parts["autoencoder"] = Part("autoencoder", os.fspath(arguments["autoencoder"]), get("autoencoder_revision"))
    if get("lora") is not None:
        name, weight_name = os.fspath(arguments["lora"]), get("lora_weight_name")
        if Path(name).is_file():
            name, weight_name = str(Path(name).parent), Path(name).name
        parts["lora"] = Part("lora", name, get("lora_revision"), weight_name=weight_name)
    name = os.fspath(get("name_or_path") or STABLE_DIFFUSION)
    whole = Part("generator", name, get("revision"), get("variant"), left_out=frozenset(left_out))
    return {"generator": whole, **parts}


def ready_captioner(name_or_path: str, revision: str | None) -> Plan:
    """A captioner, on this machine and whole; fetched if need be.

    Raises what `survey` and `bring` raise.
    """
    (plan,) = brought({"captioner": survey(Part("captioner", name_or_path, revision))}).values()
    return plan


def require_generator(plans: Plans, arguments: Mapping[str, Any]) -> None:
    """Raise `ValueError` or `ImportError` if the parts are known not to fit each other, or not to be usable, before
    any is downloaded."""
    get = arguments.get
    for name in ("steps", "height", "width"):
        require_whole(name, get(name), none="the pipeline's own")
    pipeline = plans["generator"].listing
    if "lora" in plans:
        require_lora_extra(plans["lora"].part.name)
    require_pipeline(pipeline)
    if get("scheduler") is not None:
        require_scheduler(pipeline, arguments["scheduler"])
    if get("decoder") == "linear":
        require_linear(pipeline)
    if "autoencoder" in plans:
        require_autoencoder(pipeline, plans["autoencoder"].listing)
    require_size(pipeline, get("height"), get("width"))
    require_steps(pipeline, get("scheduler"), get("steps"))


def ready_generator(arguments: Mapping[str, Any]) -> Plans:
    """The parts of a generator, on this machine, whole and fitting each other; fetched if need be.

    Raises what `survey`, `bring` and `require_generator` raise, and `ValueError` for low-rank weights for another
    pipeline.
    """
    parts = generator_parts(arguments)
    plans = {kind: survey(part) for kind, part in parts.items()}
    require_generator(plans, arguments)
    plans = brought(plans)
    if "lora" in plans:
        require_lora(plans["generator"], plans["lora"])
    return plans


def brought(plans: Plans) -> Plans:
    """The same parts, on this machine."""
    if not any(plan.absent for plan in plans.values()):
        return plans
    bring(list(plans.values()))
    return {kind: survey(plan.part) for kind, plan in plans.items()}
