"""Image-to-text models of several families, behind one way to load them and to tell them a prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .composition import ready_captioner
from .parts import weights_of
from .precision import half_precision
from .weights import require_all_weights

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class CaptioningModel:
    """A loaded checkpoint, and how its kind is told a prompt.

    **Arguments:**

    - model, image_processor, tokenizer: as transformers' auto classes load them.
    """

    model: Any
    image_processor: Any
    tokenizer: Any

    @classmethod
    def from_pretrained(cls, name_or_path: str, revision: str | None, device: str | torch.device) -> CaptioningModel:
        """Load a checkpoint, in the precision that `device` works in.

        Raises `MissingWeightsError` if it does not find all its weights, and what `ready_captioner` raises.
        """
        from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

        from .isolated import isolated_loading

        plan = ready_captioner(name_or_path, revision)
        weights = weights_of(plan.listing, "")
        with isolated_loading():
            # From the folder, so that the hub is not asked: not for the files, and not to convert them.
            model, info = AutoModelForImageTextToText.from_pretrained(
                plan.folder,
                dtype=half_precision(device),
                use_safetensors=weights.format == "safetensors",
                weights_only=True,
                output_loading_info=True,
            )
            require_all_weights(name_or_path, model, info)
            return cls(
                model.eval().requires_grad_(False).to(device),
                AutoImageProcessor.from_pretrained(plan.folder),
                AutoTokenizer.from_pretrained(plan.folder),
            )

    @classmethod
    def of(cls, model: Any, processor: Any) -> CaptioningModel:
        """A model and its processor that are loaded already.

        Raises `ValueError` for a kind of model that is not known.
        """
        kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        if kind not in _PROMPTS:
            raise ValueError(f"model is a {kind} model; known kinds: {', '.join(_PROMPTS)}")
        return cls(model.eval(), processor.image_processor, processor.tokenizer)

    @property
    def num_positions(self) -> int:
        """Tokens of the longest text that the model has positions for."""
        config = self.model.config
        text = getattr(config, "decoder", None) or getattr(config, "text_config", config)
        return int(getattr(text, "max_position_embeddings", None) or 512)

    def tokens_of(self, prompt: str) -> tuple[str, list[int]]:
        """The prompt as `generate` takes it: the name of its argument, and the tokens."""
        return _PROMPTS[self.model.config.model_type](self, prompt)


def _with_both_ends(loaded: CaptioningModel, prompt: str) -> tuple[str, list[int]]:
    return "input_ids", loaded.tokenizer(prompt).input_ids


def _with_open_end(loaded: CaptioningModel, prompt: str) -> tuple[str, list[int]]:
    tokens = loaded.tokenizer(prompt, add_special_tokens=False).input_ids
    return "input_ids", [loaded.tokenizer.cls_token_id, *tokens]


def _after_image_tokens(loaded: CaptioningModel, prompt: str) -> tuple[str, list[int]]:
    config = loaded.model.config
    return "input_ids", [config.image_token_id] * config.num_query_tokens + loaded.tokenizer(prompt).input_ids


def _to_the_decoder(loaded: CaptioningModel, prompt: str) -> tuple[str, list[int]]:
    start = loaded.model.generation_config.decoder_start_token_id or loaded.model.config.decoder_start_token_id
    return "decoder_input_ids", [start, *loaded.tokenizer(prompt, add_special_tokens=False).input_ids]


# How a prompt is told, by the model_type of the checkpoint's configuration.
_PROMPTS: dict[str, Callable[[CaptioningModel, str], tuple[str, list[int]]]] = {
    "blip": _with_both_ends,
    "blip-2": _after_image_tokens,
    "git": _with_open_end,
    "vision-encoder-decoder": _to_the_decoder,
}
