"""Image-to-text models of several families, behind one way to load them and to tell them a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .composition import ready_captioner
from .parts import weights_of
from .precision import half_precision
from .weights import require_all_weights

if TYPE_CHECKING:
    import torch


class Told(NamedTuple):
    """A prompt as `generate` takes it.

    **Arguments:**

    - argument: of `generate`.
    - ids: the tokens that are its value.
    - returned: with how many of them what `generate` returns begins.
    """

    argument: str
    ids: list[int]
    returned: int


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
        from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, __version__

        from .isolated import isolated_loading, without_warnings

        plan = ready_captioner(name_or_path, revision)
        weights = weights_of(plan.listing, "")
        # Version 4 has a processor by Pillow and one by torchvision, of which the later versions take the second.
        by_torchvision = {"use_fast": True} if __version__.startswith("4.") else {}
        with isolated_loading(), without_warnings():
            # From the folder, so that the hub is not asked: not for the files, and not to convert them.
            model, info = AutoModelForImageTextToText.from_pretrained(
                plan.folder,
                dtype=half_precision(device),
                use_safetensors=weights.format == "safetensors",
                weights_only=True,
                ignore_mismatched_sizes=True,  # which are then told of
                output_loading_info=True,
            )
            require_all_weights(name_or_path, model, info)
            return cls(
                model.eval().requires_grad_(False).to(device),
                AutoImageProcessor.from_pretrained(plan.folder, **by_torchvision),
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

    def told(self, prompt: str) -> Told:
        """The prompt, as this kind of model takes it."""
        return _PROMPTS[self.model.config.model_type](self, prompt)

    def added_to(self, prompt: str, tokens: Sequence[int]) -> str:
        """What the model went on to say after the prompt, from the tokens that it returned.

        They are told apart by their number: a tokenizer changes the spelling of what it is given.
        """
        ids, returned = self.told(prompt)[1:]
        # All but the first, which a model may put its own start in the place of.
        begins = list(tokens[1:returned]) == ids[1:returned]
        new = list(tokens[returned if begins else 0 :])
        for again in (prompt, f" {prompt}"):  # some models begin by saying the prompt once more
            repeated = self.tokenizer(again, add_special_tokens=False).input_ids
            while repeated and new[: len(repeated)] == repeated:
                new = new[len(repeated) :]
        # Decoded together, as the first new token may go on with the last word: "truck" and "##s".
        asked = ids[:returned]
        before, text = (self.tokenizer.decode(t, skip_special_tokens=True) for t in (asked, [*asked, *new]))
        if text.startswith(before):
            return text[len(before) :].rstrip()
        alone: str = self.tokenizer.decode(new, skip_special_tokens=True)
        return f" {alone.strip()}".rstrip()


def _with_both_ends(loaded: CaptioningModel, prompt: str) -> Told:
    ids = loaded.tokenizer(prompt).input_ids
    return Told("input_ids", ids, len(ids) - 1)  # BLIP goes on from before the end


def _with_open_end(loaded: CaptioningModel, prompt: str) -> Told:
    ids = [loaded.tokenizer.cls_token_id, *loaded.tokenizer(prompt, add_special_tokens=False).input_ids]
    return Told("input_ids", ids, len(ids))


def _after_image_tokens(loaded: CaptioningModel, prompt: str) -> Told:
    config = loaded.model.config
    ids = [config.image_token_id] * config.num_query_tokens + loaded.tokenizer(prompt).input_ids
    return Told("input_ids", ids, len(ids))


def _to_the_decoder(loaded: CaptioningModel, prompt: str) -> Told:
    start = loaded.model.generation_config.decoder_start_token_id or loaded.model.config.decoder_start_token_id
    ids = [start, *loaded.tokenizer(prompt, add_special_tokens=False).input_ids]
    return Told("decoder_input_ids", ids, len(ids))


# How a prompt is told, by the model_type of the checkpoint's configuration.
_PROMPTS: dict[str, Callable[[CaptioningModel, str], Told]] = {
    "blip": _with_both_ends,
    "blip-2": _after_image_tokens,
    "git": _with_open_end,
    "vision-encoder-decoder": _to_the_decoder,
}
