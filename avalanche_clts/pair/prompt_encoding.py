"""Prompts as a pipeline's text encoders give them, each distinct one encoded once."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from .pipeline_kinds import PipelineKind, Reader


def encode_prompts(
    pipeline: Any, kind: PipelineKind, prompts: Sequence[str], guidance_scale: float | None
) -> dict[str, Any]:
    """Arguments of the pipeline that stand for the prompts: their encodings.

    **Arguments:**

    - guidance_scale: of classifier-free guidance; above 1 the encoding of no prompt is needed too. None: the pipeline's
        default.
    """
    default = inspect.signature(pipeline.__call__).parameters["guidance_scale"].default
    guidance = default if guidance_scale is None else guidance_scale
    distinct = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
    arguments = kind.encoding(pipeline)
    for reader in kind.readers(pipeline):
        arguments[reader.argument] = [as_read(pipeline, reader, prompt) for prompt in distinct]
    if "do_classifier_free_guidance" in inspect.signature(pipeline.encode_prompt).parameters:
        arguments["do_classifier_free_guidance"] = kind.guided and guidance > 1
    encodings = pipeline.encode_prompt(
        device=getattr(pipeline, "_execution_device", pipeline.device), num_images_per_prompt=1, **arguments
    )
    rows = [distinct[prompt] for prompt in prompts]
    named = zip(kind.encoded, encodings, strict=False)
    return {name: tensor[rows] for name, tensor in named if name and tensor is not None}


def is_cut(pipeline: Any, kind: PipelineKind, prompt: str) -> bool:
    """Whether none of the pipeline's text encoders has room for the whole prompt."""
    return all(as_read(pipeline, reader, prompt) != prompt for reader in kind.readers(pipeline))


def as_read(pipeline: Any, reader: Reader, prompt: str) -> str:
    """As much of the prompt as the text encoder has room for."""
    tokenizer, whole = getattr(pipeline, reader.tokenizer), reader.lead + prompt
    if tokenizer.is_fast:
        tokens = tokenizer(whole, truncation=True, max_length=reader.room, return_offsets_mapping=True)
        end = max(end for _, end in tokens.offset_mapping)
    else:
        end = _end_without_offsets(tokenizer, whole, reader.room)
    end -= len(reader.lead)
    return prompt if not prompt[end:].strip() else prompt[:end]


def _end_without_offsets(tokenizer: Any, prompt: str, length: int | None) -> int:
    """Where what is read of the prompt ends, for tokenizers of transformers 4 that do not tell a token's place: such
    tokens have, spaces aside, the prompt's characters in order."""
    room = (length or tokenizer.model_max_length) - tokenizer.num_special_tokens_to_add()
    tokens = tokenizer.tokenize(prompt)
    if len(tokens) <= room:
        return len(prompt)
    read = "".join(tokenizer.convert_tokens_to_string(tokens[:room]).split())
    places = [place for place, character in enumerate(prompt) if not character.isspace()]
    return places[min(len(read), len(places)) - 1] + 1 if read else 0
