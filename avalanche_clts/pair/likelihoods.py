"""How likely a captioning model finds a text of an image: teacher forcing, a kind of models at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .captioning_models import CaptioningModel

if TYPE_CHECKING:
    from torch import Tensor


class Spelt(NamedTuple):
    """A text as a model is shown it.

    **Arguments:**

    - before: tokens that stand before it, which are given.
    - said: its own tokens, whose likelihood is asked for.
    """

    before: list[int]
    said: list[int]


def text_log_likelihoods(
    loaded: CaptioningModel, pixels: Tensor, texts: Sequence[Sequence[str]], *, at_once: int
) -> list[Tensor]:
    """log p(text | image): for each image, one number for each of its texts, the sum over the text's tokens, its end
    not among them.

    **Arguments:**

    - pixels: as the model takes them, `(n, 3, h, w)`.
    - texts: of each image.
    - at_once: texts that are computed together, at most.

    Raises `ValueError` for a text that is empty, or longer than the model can read.
    """
    import torch

    kind = loaded.model.config.model_type
    spelt = {text: _spelt(loaded, text) for of_image in texts for text in of_image}
    by_length: dict[tuple[int, int], list[tuple[int, int]]] = {}  # texts of one length need no padding
    for i, of_image in enumerate(texts):
        for j, text in enumerate(of_image):
            by_length.setdefault((len(spelt[text].before), len(spelt[text].said)), []).append((i, j))
    found = [torch.empty(len(of_image)) for of_image in texts]
    with torch.inference_mode():
        seen = _SEES[kind](loaded, pixels)
        for (_, length), pairs in by_length.items():
            for start in range(0, len(pairs), at_once):
                lot = pairs[start : start + at_once]
                shown = [spelt[texts[i][j]] for i, j in lot]
                ids = torch.tensor([s.before + s.said for s in shown], device=pixels.device)
                logits = _READS[kind](loaded, seen[[i for i, _ in lot]], ids)[:, -length - 1 : -1]
                chosen = logits.float().log_softmax(-1).gather(2, ids[:, -length:, None])[..., 0].sum(1).cpu()
                for (i, j), value in zip(lot, chosen, strict=True):
                    found[i][j] = value
    return found


def _spelt(loaded: CaptioningModel, text: str) -> Spelt:
    said = loaded.tokenizer(text, add_special_tokens=False).input_ids
    spelt = Spelt(_before(loaded, text, said), said)
    length = len(spelt.before) + len(said)
    if not said or length > loaded.num_positions:
        raise ValueError(
            f"the text {text!r} has {length} tokens with those before it, of which {len(said)} its own; the captioner "
            f"reads {loaded.num_positions} at most, and one at least"
        )
    return spelt


def _before(loaded: CaptioningModel, text: str, said: list[int]) -> list[int]:
    """What a kind of model is shown before its text begins."""
    config, tokenizer = loaded.model.config, loaded.tokenizer
    if config.model_type == "blip":
        return [config.text_config.bos_token_id]
    if config.model_type == "git":
        return [tokenizer.cls_token_id]
    if config.model_type == "vision-encoder-decoder":
        generation = loaded.model.generation_config
        return [generation.decoder_start_token_id or config.decoder_start_token_id]
    if not config.use_decoder_only_language_model:
        return [config.text_config.decoder_start_token_id]
    whole = tokenizer(text).input_ids  # what the tokenizer puts before a text belongs before it here too
    start = whole[: len(whole) - len(said)] if whole[len(whole) - len(said) :] == said else []
    return [config.image_token_id] * config.num_query_tokens + start


# What a model makes of images, once for all texts.


def _patches(loaded: CaptioningModel, pixels: Tensor) -> Tensor:
    return loaded.model.vision_model(pixel_values=pixels).last_hidden_state


def _encoded(loaded: CaptioningModel, pixels: Tensor) -> Tensor:
    return loaded.model.encoder(pixel_values=pixels).last_hidden_state


def _as_they_are(loaded: CaptioningModel, pixels: Tensor) -> Tensor:
    return pixels


# Logits over the next token of texts `(n, length)`, each beside what was seen of its image, `(n, ..., vocabulary)`.


def _blip(loaded: CaptioningModel, seen: Tensor, ids: Tensor) -> Tensor:
    return loaded.model.text_decoder(input_ids=ids, encoder_hidden_states=seen).logits


def _git(loaded: CaptioningModel, seen: Tensor, ids: Tensor) -> Tensor:
    return loaded.model(input_ids=ids, pixel_values=seen).logits


def _encoder_decoder(loaded: CaptioningModel, seen: Tensor, ids: Tensor) -> Tensor:
    from transformers.modeling_outputs import BaseModelOutput

    encoded: Any = BaseModelOutput(last_hidden_state=seen)
    return loaded.model(encoder_outputs=encoded, decoder_input_ids=ids).logits


def _blip2(loaded: CaptioningModel, seen: Tensor, ids: Tensor) -> Tensor:
    import torch

    config = loaded.model.config
    if config.use_decoder_only_language_model:
        return loaded.model(pixel_values=seen, input_ids=ids).logits
    shown = torch.full((len(ids), config.num_query_tokens), config.image_token_id, device=ids.device)
    return loaded.model(pixel_values=seen, input_ids=shown, decoder_input_ids=ids).logits


_SEES: dict[str, Callable[[CaptioningModel, Tensor], Tensor]] = {
    "blip": _patches,
    "blip-2": _as_they_are,
    "git": _as_they_are,
    "vision-encoder-decoder": _encoded,
}
_READS: dict[str, Callable[[CaptioningModel, Tensor, Tensor], Tensor]] = {
    "blip": _blip,
    "blip-2": _blip2,
    "git": _git,
    "vision-encoder-decoder": _encoder_decoder,
}
