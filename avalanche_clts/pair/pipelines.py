"""Text-to-image pipelines as they are loaded: with another scheduler, low-rank weights, another autoencoder."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .fitting import model_class, require_lora_extra, scheduler_class
from .parts import Kind, Weights, pipeline_parts, weights_of
from .plans import Plan
from .precision import half_precision, without_8_bits
from .weights import MissingWeightsError, misfit, require_all_weights

if TYPE_CHECKING:
    import torch


def load_pipeline(plans: Mapping[Kind, Plan], *, scheduler: str | None, device: str | torch.device) -> Any:
    """A pipeline of diffusers on the CPU, its weights in the precision that `device` works in.

    **Arguments:**

    - plans: the generator's, and those of another autoencoder and of low-rank weights, whose files are all here.
    - scheduler, device: those of `DiffusionGenerator`.

    Raises `MissingWeightsError` if one of its models does not find all its weights, `ValueError` for a scheduler that
    diffusers does not know or low-rank weights of which none fits, and `ImportError` for low-rank weights without peft.
    """
    import diffusers

    from .isolated import isolated_loading

    precision = half_precision(device)
    plan = plans["generator"]
    left_out: dict[str, Any] = dict.fromkeys(plan.part.left_out & pipeline_parts(plan.listing).keys())
    with isolated_loading():
        models = _models(plan, precision) | left_out
        if "autoencoder" in plans:
            models["vae"] = _load_autoencoder(plans["autoencoder"], precision)
        if "safety_checker" in left_out:
            models["requires_safety_checker"] = False
        with _any_module_passed():
            kind = getattr(diffusers, plan.listing.json("model_index.json")["_class_name"])
            pipeline = kind.from_pretrained(plan.folder, **models)
        if scheduler is not None:
            pipeline.scheduler = scheduler_class(scheduler).from_config(pipeline.scheduler.config)
        if "lora" in plans:
            _add_lora(pipeline, plans["lora"])
    _bound_tokenizers(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _bound_tokenizers(pipeline: Any) -> None:
    """Tell tokenizers, where their files do not, for how many tokens their text encoder has room."""
    for name, part in pipeline.components.items():
        encoder = pipeline.components.get(name.replace("tokenizer", "text_encoder"))
        room = getattr(getattr(encoder, "config", None), "max_position_embeddings", None)
        if name.startswith("tokenizer") and part is not None and room is not None:
            part.model_max_length = min(part.model_max_length, room)


def make_fast(pipeline: Any, device: str | torch.device, compile: bool | str) -> None:
    """Arrange the pipeline's weights as `device` computes fastest with them, and compile its denoiser if asked.

    **Arguments:**

    - compile: whether to, or the name of the backend.
    """
    import torch

    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    if torch.device(device).type != "cpu":
        for part in (denoiser, pipeline.vae):
            part.to(memory_format=torch.channels_last)
    if compile:
        denoiser.compile(**({"backend": compile} if isinstance(compile, str) else {}))


def _models(plan: Plan, dtype: torch.dtype) -> dict[str, Any]:
    """The pipeline's models, by the names of its parts, each with all its weights.

    They are loaded one by one because a pipeline that loads its own does not say which weights it did not find.
    """
    models = {}
    for part, entry in pipeline_parts(plan.listing).items():
        kind = model_class(entry)
        if kind is not None and part not in plan.part.left_out:
            weights = weights_of(plan.listing, part, plan.part.variant)
            models[part] = _whole(kind, plan.folder / part, plan.listing.path_of(part), weights, dtype)
    return models


@contextmanager
def _any_module_passed() -> Iterator[None]:
    """Within this context diffusers does not warn of being passed a safety checker, whole as it prints it."""
    logger = logging.getLogger("diffusers.pipelines.pipeline_loading_utils")

    def is_welcome(record: logging.LogRecord) -> bool:
        return "non-standard module" not in record.getMessage()

    logger.addFilter(is_welcome)
    try:
        yield
    finally:
        logger.removeFilter(is_welcome)


def _whole(kind: Any, folder: Path, where: str, weights: Weights, dtype: torch.dtype) -> Any:
    import diffusers

    from .isolated import without_warnings

    options: dict[str, Any] = {"dtype": dtype, "ignore_mismatched_sizes": True}  # which are then told of
    if issubclass(kind, diffusers.ModelMixin):
        options = {"torch_dtype": dtype}
    try:
        # Where these are not safetensors, both libraries read them with `weights_only=True`.
        with without_warnings():
            model, info = kind.from_pretrained(
                folder,
                variant=weights.variant,
                use_safetensors=weights.format == "safetensors",
                output_loading_info=True,
                **options,
            )
    except ValueError as error:
        misshapen = re.search(r"(\S+) expected shape", str(error))  # which diffusers tells in no other way
        if misshapen is None:
            raise
        raise MissingWeightsError(misfit(where, kind, [f"{misshapen[1]} in another shape"])) from None
    require_all_weights(where, model, info)
    return model if isinstance(model, diffusers.ModelMixin) else without_8_bits(model, dtype)


def _load_autoencoder(plan: Plan, dtype: torch.dtype) -> Any:
    """A full autoencoder or a tiny one, as its configuration says."""
    import diffusers

    kind = plan.listing.json("config.json").get("_class_name", "AutoencoderKL")
    return _whole(getattr(diffusers, kind), plan.folder, plan.listing.where, weights_of(plan.listing, ""), dtype)


def _add_lora(pipeline: Any, plan: Plan) -> None:
    require_lora_extra(plan.part.name)
    (file,) = plan.files
    pipeline.load_lora_weights(plan.folder, weight_name=file, use_safetensors=file.endswith(".safetensors"))
    if not pipeline.get_list_adapters():
        raise ValueError(f"lora is {plan.part.name!r}, of whose weights none fits the pipeline; give one for its kind")
    # Of all that it can have learnt: some pipelines fuse into the denoiser alone by themselves, and drop the rest.
    loadable = [name for name in pipeline._lora_loadable_modules if getattr(pipeline, name, None) is not None]
    pipeline.fuse_lora(components=loadable)
    pipeline.unload_lora_weights()
