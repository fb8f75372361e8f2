"""Text-to-image pipelines as they are loaded: with another scheduler, low-rank weights, another autoencoder."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .precision import half_precision

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

    Raises `ValueError` for a scheduler that diffusers does not know, or an autoencoder of another kind, and
    `ImportError` for low-rank weights without peft.
    """
    from diffusers import AutoPipelineForText2Image

    from .quiet import quiet_loading

    with quiet_loading():
        pipeline = AutoPipelineForText2Image.from_pretrained(
            name_or_path, revision=revision, variant=variant, dtype=half_precision(device), use_safetensors=True
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


def _load_autoencoder(name_or_path: str, dtype: torch.dtype) -> Any:
    """A full autoencoder or a tiny one, as its configuration says."""
    import diffusers

    config, _ = diffusers.AutoencoderKL.load_config(name_or_path, return_unused_kwargs=True)
    kind = config.get("_class_name", "AutoencoderKL")
    if kind not in ("AutoencoderKL", "AutoencoderTiny"):
        raise ValueError(f"autoencoder is {name_or_path}, a {kind}; it must be an AutoencoderKL or an AutoencoderTiny")
    return getattr(diffusers, kind).from_pretrained(name_or_path, torch_dtype=dtype, use_safetensors=True)


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
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
