"""Image-to-text models of several families, behind one way to load them and to tell them how to begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from PIL.Image import Image

from .composition import ready_captioner
from .parts import weights_of
from .precision import half_precision, without_8_bits
from .weights import require_all_weights

if TYPE_CHECKING:
    import torch


class Asked(NamedTuple):
    """What is asked of a caption.

    **Arguments:**

    - prefix: how it begins. None: as the model likes.
    - prompt: what a model that takes instructions is told; None for one that takes none.
    """

    prefix: str | None = None
    prompt: str | None = None


class Told(NamedTuple):
    """A prefix as `generate` takes it.

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
    """A loaded checkpoint, and how its kind is told how to begin.

    **Arguments:**

    - model, image_processor, tokenizer: as transformers' auto classes load them.
    """

    model: Any
    image_processor: Any
    tokenizer: Any

    # Whether captions that begin differently can be made in one batch: most of these know no padding before a prefix.
    mixes: ClassVar[bool] = False

    @classmethod
    def from_pretrained(cls, name_or_path: str, revision: str | None, device: str | torch.device) -> CaptioningModel:
        """Load a checkpoint, in the precision that `device` works in.

        Raises `MissingWeightsError` if it does not find all its weights, and what `ready_captioner` raises.
        """
        from transformers import AutoModelForImageTextToText

        from .isolated import isolated_loading, without_warnings

        plan = ready_captioner(name_or_path, revision)
        weights, precision = weights_of(plan.listing, ""), half_precision(device)
        with isolated_loading(), without_warnings():
            # From the folder, so that the hub is not asked: not for the files, and not to convert them.
            model, info = AutoModelForImageTextToText.from_pretrained(
                plan.folder,
                dtype=precision,
                use_safetensors=weights.format == "safetensors",
                weights_only=True,
                ignore_mismatched_sizes=True,  # which are then told of
                output_loading_info=True,
            )
            require_all_weights(name_or_path, model, info)
            model = without_8_bits(model, precision)
            return cls._with(model.eval().requires_grad_(False).to(device), plan.folder)

    @classmethod
    def _with(cls, model: Any, folder: Path) -> CaptioningModel:
        """The model, and what reads images and text for it."""
        from transformers import AutoImageProcessor, AutoTokenizer, __version__

        # Version 4 has a processor by Pillow and one by torchvision, of which the later versions take the second.
        by_torchvision = {"use_fast": True} if __version__.startswith("4.") else {}
        return cls(
            model,
            AutoImageProcessor.from_pretrained(folder, **by_torchvision),
            AutoTokenizer.from_pretrained(folder),
        )

    @classmethod
    def of(cls, model: Any, processor: Any) -> CaptioningModel:
        """A model and its processor that are loaded already."""
        return cls(model.eval(), processor.image_processor, processor.tokenizer)

    @property
    def num_positions(self) -> int:
        """Tokens of the longest text that the model has positions for."""
        config = self.model.config
        text = getattr(config, "decoder", None) or getattr(config, "text_config", config)
        return int(getattr(text, "max_position_embeddings", None) or 512)

    def inputs(self, images: Sequence[Image], asked: Sequence[Asked]) -> dict[str, torch.Tensor]:
        """Arguments of `generate`, on the CPU.

        **Arguments:**

        - images: in RGB.
        - asked: of each; unless this kind mixes them, with one prefix for all.
        """
        inputs = {"pixel_values": self.image_processor(images=images, return_tensors="pt").pixel_values}
        return inputs | self._led(asked)

    def _led(self, asked: Sequence[Asked]) -> dict[str, torch.Tensor]:
        """The prefix, by the argument that takes it."""
        import torch

        if asked[0].prefix is None:
            return {}
        told = self.told(asked[0].prefix)
        return {told.argument: torch.tensor([told.ids] * len(asked))}

    def generate(
        self,
        inputs: Mapping[str, torch.Tensor],
        asked: Sequence[Asked],
        max_new_tokens: int,
        decoding: Callable[[int], dict[str, Any]],
    ) -> torch.Tensor:
        """A row of tokens for each caption, as `added` takes them.

        **Arguments:**

        - inputs, asked: those of `inputs`, and what it gave.
        - max_new_tokens: a model that never comes to an end must not run past its last position, either.
        - decoding: arguments of `generate`, by how much room there is.
        """
        import torch

        told = None if asked[0].prefix is None else self.told(asked[0].prefix)
        room = min(max_new_tokens, self.num_positions - (1 if told is None else len(told.ids)))
        if told is not None and room < 1:  # as behind a class name of very many words
            return torch.tensor([told.ids[: told.returned]] * len(asked))
        return self._generate(inputs, max_new_tokens=room, **decoding(room))

    def _generate(self, inputs: Mapping[str, torch.Tensor], **options: Any) -> torch.Tensor:
        import torch

        model = self.model
        moved = {
            name: tensor.to(model.device, model.dtype if tensor.is_floating_point() else None)
            for name, tensor in inputs.items()
        }
        with torch.inference_mode():
            tokens: torch.Tensor = model.generate(**moved, **options)
        return tokens

    def added(self, asked: Asked, tokens: Sequence[int]) -> str:
        """What the model said, behind the prefix where there is one, from the tokens of a caption."""
        if asked.prefix is None:
            text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
            return text.strip()
        return self.added_to(asked.prefix, tokens)

    def told(self, prompt: str) -> Told:
        """The prefix, as this kind of model takes it."""
        return _PROMPTS[self.model.config.model_type](self, prompt)

    def added_to(self, prompt: str, tokens: Sequence[int]) -> str:
        """What the model went on to say after the prefix, from the tokens that it returned.

        They are told apart by their number: a tokenizer changes the spelling of what it is given.
        """
        ids, returned = self.told(prompt)[1:]
        # All but the first, which a model may put its own start in the place of.
        begins = list(tokens[1:returned]) == ids[1:returned]
        return self.after(prompt, ids[:returned], list(tokens[returned if begins else 0 :]))

    def after(self, prompt: str, asked: list[int], new: list[int]) -> str:
        """The text of new tokens behind those of the prefix."""
        for again in (prompt, f" {prompt}"):  # some models begin by saying the prompt once more
            repeated = self.tokenizer(again, add_special_tokens=False).input_ids
            while repeated and new[: len(repeated)] == repeated:
                new = new[len(repeated) :]
        # Decoded together, as the first new token may go on with the last word: "truck" and "##s".
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


def _to_the_decoder_after_its_start(loaded: CaptioningModel, prompt: str) -> Told:
    start, *ids = _to_the_decoder(loaded, prompt).ids
    ids = [start, loaded.tokenizer.bos_token_id, *ids]
    return Told("decoder_input_ids", ids, len(ids))


# How a prefix is told, by the model_type of the checkpoint's configuration.
_PROMPTS: dict[str, Callable[[CaptioningModel, str], Told]] = {
    "blip": _with_both_ends,
    "blip-2": _after_image_tokens,
    "git": _with_open_end,
    "vision-encoder-decoder": _to_the_decoder,
    "florence2": _to_the_decoder_after_its_start,
}
