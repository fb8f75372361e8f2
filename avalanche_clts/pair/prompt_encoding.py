"""Prompts as a pipeline's text encoder gives them, each distinct one encoded once."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any


def takes_encodings(pipeline: Any) -> bool:
    """Whether the pipeline is of a kind that is known to take encodings in the place of prompts."""
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    return isinstance(pipeline, (StableDiffusionPipeline, StableDiffusionXLPipeline))


def encode_prompts(pipeline: Any, prompts: Sequence[str], guidance_scale: float | None) -> dict[str, Any]:
    """Arguments of the pipeline that stand for the prompts: their encodings, where it takes them.

    **Arguments:**

    - guidance_scale: of classifier-free guidance; above 1 the encoding of no prompt is needed too. None: the pipeline's
        default.
    """
    if not takes_encodings(pipeline):
        return {"prompt": list(prompts)}
    default = inspect.signature(pipeline.__call__).parameters["guidance_scale"].default
    guidance = default if guidance_scale is None else guidance_scale
    distinct = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
    encodings = pipeline.encode_prompt(
        prompt=[as_read(pipeline.tokenizer, prompt) for prompt in distinct],
        device=getattr(pipeline, "_execution_device", pipeline.device),
        num_images_per_prompt=1,
        do_classifier_free_guidance=guidance > 1,
    )
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    rows = [distinct[prompt] for prompt in prompts]
    return {name: tensor[rows] for name, tensor in zip(names, encodings, strict=False) if tensor is not None}


def as_read(tokenizer: Any, prompt: str) -> str:
    """As much of the prompt as the text encoder has room for."""
    if tokenizer.is_fast:
        tokens = tokenizer(prompt, truncation=True, return_offsets_mapping=True)
        end = max(end for _, end in tokens.offset_mapping)
    else:
        end = _end_without_offsets(tokenizer, prompt)
    return prompt if not prompt[end:].strip() else prompt[:end]


def _end_without_offsets(tokenizer: Any, prompt: str) -> int:
    """Where what is read of the prompt ends, for tokenizers of transformers 4 that do not tell a token's place: such
    tokens have, spaces aside, the prompt's characters in order."""
    room = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    tokens = tokenizer.tokenize(prompt)
    if len(tokens) <= room:
        return len(prompt)
    read = "".join(tokenizer.convert_tokens_to_string(tokens[:room]).split())
    places = [place for place, character in enumerate(prompt) if not character.isspace()]
    return places[min(len(read), len(places)) - 1] + 1 if read else 0
