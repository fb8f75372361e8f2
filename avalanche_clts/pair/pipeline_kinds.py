"""The text-to-image pipelines that a generator may be: those that are tested, and in what they differ."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple


class Reader(NamedTuple):
    """A text encoder, by what it is given.

    **Arguments:**

    - argument: of the pipeline's `encode_prompt`.
    - tokenizer: name of the pipeline's part.
    - room: for how many tokens. None: as the tokenizer says.
    - lead: text that the pipeline puts before every prompt.
    """

    argument: str
    tokenizer: str
    room: int | None = None
    lead: str = ""


@dataclass(frozen=True)
class PipelineKind:
    """What is to be known of a class of pipelines.

    **Arguments:**

    - encoded: what its `encode_prompt` returns, in order, by the names under which it takes it; "" for what it
        does not.
    - readers: its text encoders, given the pipeline.
    - encoding: further arguments of `encode_prompt`, given the pipeline.
    - guided: whether guidance is classifier-free, and asks for the encoding of no prompt; others are told the scale.
    - calling: further arguments of the pipeline itself, given the number of steps.
    - schedules: an argument of its scheduler's `set_timesteps` that it gives.
    - multiple: of pixels a side, that it asks for.
    - patch: latent pixels a side of what its transformer takes as one. None: as its configuration says.
    - linear: whether its latents are pictures that a `LinearDecoder` can be fitted to.
    """

    encoded: tuple[str, ...]
    readers: Callable[[Any], tuple[Reader, ...]] = lambda pipeline: (Reader("prompt", "tokenizer"),)
    encoding: Callable[[Any], dict[str, Any]] = lambda pipeline: {}
    guided: bool = True
    calling: Callable[[int | None], dict[str, Any]] = lambda steps: {}
    schedules: str | None = None
    multiple: int = 8
    patch: int | None = None
    linear: bool = False


def _t5(room: int) -> PipelineKind:
    """PixArt, which knows one text encoder, and masks what pads a prompt."""
    return PipelineKind(
        _MASKED,
        readers=lambda pipeline: (Reader("prompt", "tokenizer", room),),
        encoding=lambda pipeline: {"max_sequence_length": room},
        calling=_exact,
    )


def _three(pipeline: Any) -> tuple[Reader, ...]:
    """Stable Diffusion 3 has a third text encoder, the one that reads long prompts; some leave it out."""
    third = Reader("prompt_3", "tokenizer_3", _SD3_ROOM)
    if pipeline.text_encoder_3 is None:
        third = Reader("prompt_3", "tokenizer")
    return (Reader("prompt", "tokenizer"), Reader("prompt_2", "tokenizer_2"), third)


def _flux_room(pipeline: Any) -> int:
    """FLUX.1-schnell, which has no guidance, was taught half as many tokens."""
    return 512 if pipeline.transformer.config.guidance_embeds else 256


def _flux(pipeline: Any) -> tuple[Reader, ...]:
    return (Reader("prompt", "tokenizer"), Reader("prompt_2", "tokenizer_2", _flux_room(pipeline)))


def _instructions(pipeline: Any) -> list[str]:
    """What Sana tells its text encoder, a chat model, before the prompt."""
    told: list[str] = inspect.signature(pipeline.__call__).parameters["complex_human_instruction"].default
    return told


def _after_instructions(pipeline: Any) -> tuple[Reader, ...]:
    lead = "\n".join(_instructions(pipeline))
    return (Reader("prompt", "tokenizer", len(pipeline.tokenizer.encode(lead)) + _SANA_ROOM - 2, lead),)


def _exact(steps: int | None) -> dict[str, Any]:
    """Height and width are those of the image that is made, not of one that is then made smaller or larger."""
    # The pipelines refuse a negative prompt beside its encoding.
    return {"negative_prompt": None, "use_resolution_binning": False}


def _sprint(steps: int | None) -> dict[str, Any]:
    """As `_exact`; a step between the first and the last is for two steps alone."""
    return {"use_resolution_binning": False} | ({} if steps in (2, None) else {"intermediate_timesteps": None})


_EMBEDS = ("prompt_embeds", "negative_prompt_embeds")
_POOLED = (*_EMBEDS, "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
_MASKED = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")
_SD3_ROOM, _SANA_ROOM = 256, 300  # tokens, the pipelines' own defaults

_sana = partial(
    PipelineKind,
    readers=_after_instructions,
    encoding=lambda pipeline: {
        "max_sequence_length": _SANA_ROOM,
        "complex_human_instruction": _instructions(pipeline),
    },
    multiple=32,
)

PIPELINES: dict[str, PipelineKind] = {
    "StableDiffusionPipeline": PipelineKind(_EMBEDS, linear=True),
    "StableDiffusionXLPipeline": PipelineKind(_POOLED, linear=True),
    "LatentConsistencyModelPipeline": PipelineKind(
        _EMBEDS, guided=False, schedules="original_inference_steps", linear=True
    ),
    "StableDiffusion3Pipeline": PipelineKind(
        _POOLED, readers=_three, encoding=lambda pipeline: {"max_sequence_length": _SD3_ROOM}
    ),
    "FluxPipeline": PipelineKind(
        ("prompt_embeds", "pooled_prompt_embeds", ""),
        readers=_flux,
        encoding=lambda pipeline: {"max_sequence_length": _flux_room(pipeline)},
        guided=False,
        schedules="sigmas",
        patch=2,
    ),
    "PixArtAlphaPipeline": _t5(120),
    "PixArtSigmaPipeline": _t5(300),
    "SanaPipeline": _sana(_MASKED, calling=_exact),
    "SanaSprintPipeline": _sana(_MASKED[:2], guided=False, calling=_sprint),
}
# How an error goes on that has named another class.
ONE_OF = f"it must be one of {', '.join(PIPELINES)}; for any other, write a Generator, which is one method"


def kind_of(pipeline: Any) -> PipelineKind | None:
    """Of a loaded pipeline; None if it is none of those that are known."""
    for base in type(pipeline).__mro__:
        if base.__name__ in PIPELINES:
            return PIPELINES[base.__name__]
    return None


def not_linear(name: str, kind: str) -> str:
    """The error for a linear decoder where latents are no pictures.

    **Arguments:**

    - name: of the pipeline.
    - kind: its class.
    """
    linear = ", ".join(known for known, of in PIPELINES.items() if of.linear)
    return f"decoder is 'linear', and {name} is a {kind}; it must be one of {linear}"


def native_size(pipeline: Any) -> tuple[int, int]:
    """Height and width, in pixels, of the images that it was trained to make."""
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    latent = getattr(pipeline, "default_sample_size", None) or denoiser.config.sample_size
    height, width = (latent, latent) if isinstance(latent, int) else latent
    return height * pipeline.vae_scale_factor, width * pipeline.vae_scale_factor
