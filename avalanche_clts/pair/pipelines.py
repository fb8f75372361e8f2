"""Text-to-image pipelines as they are loaded: with another scheduler, low-rank weights, another autoencoder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .precision import half_precision
from .weights import read_json, require_all_weights

if TYPE_CHECKING:
    import torch


def load_pipeline(
    name_or_path: str,
    *,
    revision: str | None,
    variant: str | None,
    scheduler: str | None,
    lora: str | None,
    autoencoder: str | None,
    device: str | torch.device,
) -> Any:
    """A pipeline of diffusers on the CPU, its weights in the precision that `device` works in.

    **Arguments:** those of `DiffusionGenerator`.

    Raises `MissingWeightsError` if one of its models does not find all its weights, `ValueError` for a scheduler that
    diffusers does not know, an autoencoder of another kind or low-rank weights of which none fits, and `ImportError`
    for low-rank weights without peft.
    """
    from diffusers import AutoPipelineForText2Image

    from .isolated import isolated_loading

    precision = half_precision(device)
    with isolated_loading():
        folder = _fetched(name_or_path, revision, variant)
        models = _models(folder, variant, precision)
        with _any_module_passed():
            pipeline = AutoPipelineForText2Image.from_pretrained(
                folder, variant=variant, dtype=precision, use_safetensors=True, **models
            )
        if autoencoder is not None:
            pipeline.vae = _load_autoencoder(autoencoder, pipeline.vae.dtype)
        if scheduler is not None:
            pipeline.scheduler = _scheduler_class(scheduler).from_config(pipeline.scheduler.config)
        if lora is not None:
            _add_lora(pipeline, lora)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


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


def _fetched(name_or_path: str, revision: str | None, variant: str | None) -> Path:
    """The folder with the pipeline, from the hub or its cache if need be."""
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    from diffusers import DiffusionPipeline

    return Path(DiffusionPipeline.download(name_or_path, revision=revision, variant=variant, use_safetensors=True))


def _models(folder: Path, variant: str | None, dtype: torch.dtype) -> dict[str, Any]:
    """The pipeline's models, by the names of its parts, each with all its weights.

    They are loaded one by one because a pipeline that loads its own does not say which weights it did not find.
    """
    models = {}
    for part, entry in read_json(folder / "model_index.json").items():
        kind = _model_class(entry)
        if kind is None or not (folder / part).is_dir():
            continue
        of_variant = variant is not None and any((folder / part).glob(f"*.{variant}*.safetensors"))
        models[part] = _whole(kind, folder / part, variant=variant if of_variant else None, dtype=dtype)
    return models


def _model_class(entry: Any) -> Any:
    """The class that a part's entry in `model_index.json` names, if it is one of a model; otherwise None."""
    import diffusers
    import transformers

    if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(name, str) for name in entry):
        return None
    libraries = {"diffusers": diffusers, "transformers": transformers}
    library = libraries.get(entry[0], getattr(diffusers.pipelines, entry[0], None))  # or a pipeline's own module
    kind = getattr(library, entry[1], None)
    is_model = isinstance(kind, type) and issubclass(kind, (diffusers.ModelMixin, transformers.PreTrainedModel))
    return kind if is_model else None


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


def _whole(kind: Any, name_or_path: str | Path, **options: Any) -> Any:
    model, info = kind.from_pretrained(name_or_path, **options, use_safetensors=True, output_loading_info=True)
    require_all_weights(str(name_or_path), model, info)
    return model


def _load_autoencoder(name_or_path: str, dtype: torch.dtype) -> Any:
    """A full autoencoder or a tiny one, as its configuration says."""
    import diffusers

    config, _ = diffusers.AutoencoderKL.load_config(name_or_path, return_unused_kwargs=True)
    kind = config.get("_class_name", "AutoencoderKL")
    if kind not in ("AutoencoderKL", "AutoencoderTiny"):
        raise ValueError(f"autoencoder is {name_or_path}, a {kind}; it must be an AutoencoderKL or an AutoencoderTiny")
    return _whole(getattr(diffusers, kind), name_or_path, dtype=dtype)


def _scheduler_class(name: str) -> Any:
    import diffusers

    scheduler = getattr(diffusers, name, None)
    if scheduler is None or not hasattr(scheduler, "from_config"):
        raise ValueError(f"scheduler is {name!r}; it must be the name of one of diffusers' schedulers")
    return scheduler


def _add_lora(pipeline: Any, name_or_path: str) -> None:
    if find_spec("peft") is None:
        raise ImportError(f'lora is {name_or_path!r}, which needs peft; run: pip install "avalanche-clts[lora]"')
    pipeline.load_lora_weights(name_or_path, use_safetensors=True)
    if not pipeline.get_list_adapters():
        raise ValueError(f"lora is {name_or_path!r}, of whose weights none fits the pipeline; give one for its kind")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
