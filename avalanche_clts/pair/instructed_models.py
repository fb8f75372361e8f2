"""Image-to-text models that are told what to write: chat models, and Florence-2, which knows tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from PIL.Image import Image

from .captioning_models import Asked, CaptioningModel
from .parts import CHATS, FAMILIES, INSTRUCTED

if TYPE_CHECKING:
    import torch

# What a chat model is told if nothing else is asked for.
PROMPT = "Describe the {class_name} in one short sentence: colours, pose, background."
_TASK = "<CAPTION>"  # Florence-2's
# Pixels of an image as a Qwen model sees it: of small ones it would see a few patches, of large ones many thousands.
_LEAST, _MOST = 256 * 256, 512 * 512


@dataclass(frozen=True)
class InstructedModel(CaptioningModel):
    """A model with a processor that puts images and instructions together.

    **Arguments:**

    - processor: as transformers' auto class loads it.
    - image_options: how it reads images.
    """

    processor: Any
    image_options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def _with(cls, model: Any, folder: Path) -> CaptioningModel:
        from transformers import AutoProcessor

        # Captions are decoded as the captioner is asked to, not as the checkpoint suggests for conversations.
        model.generation_config.update(
            do_sample=False, temperature=None, top_p=None, top_k=None, repetition_penalty=None
        )
        loaded = cls.of(model, AutoProcessor.from_pretrained(folder))
        loaded.image_options.update(_seen_whole(model.config.model_type, loaded.image_processor))
        return loaded

    @classmethod
    def of(cls, model: Any, processor: Any) -> InstructedModel:
        """A model and its processor that are loaded already."""
        return cls(model.eval(), processor.image_processor, processor.tokenizer, processor)

    def inputs(self, images: Sequence[Image], asked: Sequence[Asked]) -> dict[str, torch.Tensor]:
        """Arguments of `generate`; see `CaptioningModel`."""
        texts = [one.prompt or _TASK for one in asked]
        return {**self._read(images, texts, "right"), **self._led(asked)}

    def _read(self, images: Any, texts: list[str], padding_side: str) -> dict[str, torch.Tensor]:
        read = self.processor(
            images=images,
            text=texts,
            text_kwargs={"padding": True, "padding_side": padding_side},
            images_kwargs=dict(self.image_options),  # version 4 takes out of it what it reads
            return_tensors="pt",
        )
        return dict(read)


@dataclass(frozen=True)
class ChatModel(InstructedModel):
    """A chat model: its answer is the caption."""

    mixes: ClassVar[bool] = True

    def inputs(self, images: Sequence[Image], asked: Sequence[Asked]) -> dict[str, torch.Tensor]:
        """Arguments of `generate`: shorter conversations are padded on the left, so that every answer goes on from the
        last token."""
        return self._read([[image] for image in images], [self._conversation(one) for one in asked], "left")

    def _conversation(self, asked: Asked) -> str:
        """The instruction, and the beginning of the answer."""
        content = [{"type": "image"}, {"type": "text", "text": asked.prompt or PROMPT}]
        template = self.processor.chat_template or self.tokenizer.chat_template
        begun: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], chat_template=template, add_generation_prompt=True
        )
        if asked.prefix is None:
            return begun
        return begun + ("" if begun[-1:].isspace() else " ") + asked.prefix

    def generate(
        self,
        inputs: Mapping[str, torch.Tensor],
        asked: Sequence[Asked],
        max_new_tokens: int,
        decoding: Callable[[int], dict[str, Any]],
    ) -> torch.Tensor:
        """The new tokens of each answer; see `CaptioningModel`."""
        length = inputs["input_ids"].shape[1]
        room = min(max_new_tokens, self.num_positions - length)
        if room < 1:
            return inputs["input_ids"][:, length:]
        return self._generate(inputs, max_new_tokens=room, **decoding(room))[:, length:]

    def added(self, asked: Asked, tokens: Sequence[int]) -> str:
        """What the model said, on one line; see `CaptioningModel`."""
        if asked.prefix is None:
            return " ".join(super().added(asked, tokens).split())
        before = self.tokenizer(asked.prefix, add_special_tokens=False).input_ids
        added = self.after(asked.prefix, before, list(tokens))
        return (" " if added[:1].isspace() else "") + " ".join(added.split())


def _seen_whole(kind: str, image_processor: Any) -> dict[str, Any]:
    """Options by which an image is read as one, at a size that shows what a sentence says."""
    import transformers

    if kind == "idefics3":  # which would see one of 32x32 pixels as sixteen tiles of 512x512 and a whole
        return {"do_image_splitting": False, "size": dict(image_processor.max_image_size)}
    if kind in CHATS:
        if transformers.__version__.startswith("4."):  # which knows the same by other names
            return {"min_pixels": _LEAST, "max_pixels": _MOST}
        return {"size": {"shortest_edge": _LEAST, "longest_edge": _MOST}}
    return {}


def model_kind(family: str) -> type[CaptioningModel]:
    """The class for models of a family, by the model_type of their configuration."""
    if family in CHATS:
        return ChatModel
    return InstructedModel if family in INSTRUCTED else CaptioningModel


def family_of(model: Any) -> str:
    """Of a model that is loaded already. Raises `ValueError` if it is not known."""
    family = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if family not in FAMILIES:
        raise ValueError(f"model is a {family} model; known kinds: {', '.join(FAMILIES)}")
    return family
