"""From images to text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from tqdm import tqdm

from .weights import require_weights

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Captioner(Protocol):
    """All that a new captioner must offer."""

    def caption(self, images: Sequence[Image], class_names: Sequence[str] | None = None) -> list[str]:
        """One caption for each image; `class_names[i]` is the name of the class of `images[i]`, where known."""
        ...


class BlipCaptioner:
    """Captions by BLIP (Li et al., "BLIP: Bootstrapping Language-Image Pre-training", ICML 2022).

    The weights are looked for at once, and loaded when the first image is captioned.

    **Arguments:**

    - name_or_path: a BLIP checkpoint on the Hugging Face hub, or a folder as `save_pretrained` writes it.
    - revision: branch, tag or commit on the hub.
    - prefix: how captions begin, such as "a photo of a {class_name}"; BLIP goes on from there. Not used for images
        whose class name is unknown. None: BLIP finds all the words itself.
    - max_new_tokens: length of a caption at most, in tokens, without the prefix.
    - batch_size: images captioned at a time.
    - device: where the model runs.

    Raises `MissingWeightsError` (an `OSError`) if the checkpoint is not there, not whole, or cannot be fetched.
    """

    def __init__(
        self,
        name_or_path: str | os.PathLike[str] = "Salesforce/blip-image-captioning-base",
        *,
        revision: str | None = None,
        prefix: str | None = None,
        max_new_tokens: int = 30,
        batch_size: int = 64,
        device: str | torch.device = "cpu",
    ) -> None:
        self.name_or_path = os.fspath(name_or_path)
        self.revision = revision
        self.prefix = prefix
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.device = device
        self._loaded: tuple[Any, Any] | None = None
        require_weights(self.name_or_path, entry="config.json", revision=revision)

    def caption(self, images: Sequence[Image], class_names: Sequence[str] | None = None) -> list[str]:
        """One caption for each image, greedily decoded; see `Captioner`."""
        # Images are taken in groups of one prompt: BLIP knows no padding before a prompt.
        groups: dict[str | None, list[int]] = {}
        for i in range(len(images)):
            prompt = None
            if self.prefix is not None and class_names is not None:
                prompt = self.prefix.format(class_name=class_names[i])
            groups.setdefault(prompt, []).append(i)
        captions = [""] * len(images)
        with tqdm(total=len(images), desc="captioning", unit="image", leave=False, disable=None) as bar:
            for prompt, members in groups.items():
                for start in range(0, len(members), self.batch_size):
                    batch = members[start : start + self.batch_size]
                    for i, text in zip(batch, self._caption_batch([images[i] for i in batch], prompt), strict=True):
                        captions[i] = text
                    bar.update(len(batch))
        return captions

    def features(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """What BLIP's vision model makes of each image, `(n, hidden size)`: the mean of its last hidden states."""
        processor, _ = self._load()
        rows = []
        for start in range(0, len(images), self.batch_size):
            rgb = [image.convert("RGB") for image in images[start : start + self.batch_size]]
            rows.append(self._encode(processor.image_processor(images=rgb, return_tensors="pt").pixel_values))
        return np.concatenate([row.cpu().numpy() for row in rows])

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """The mean of the vision model's last hidden states, `(n, hidden size)`, without gradients.

        **Arguments:**

        - images: `(n, 3, h, w)`, values in [0, 1]; they are brought to the model's size.
        """
        import torch
        from torch.nn.functional import interpolate

        processor, model = self._load()
        side = model.config.vision_config.image_size
        resized = interpolate(images, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (
            torch.tensor(getattr(processor.image_processor, name), device=images.device)[:, None, None]
            for name in ("image_mean", "image_std")
        )
        return self._encode((resized - mean) / std).to(images.device)

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        import torch

        _, model = self._load()
        with torch.no_grad():
            output = model.vision_model(pixel_values=pixels.to(model.device, model.dtype))
        return output.last_hidden_state.mean(1).float()

    def _caption_batch(self, images: Sequence[Image], prompt: str | None) -> list[str]:
        import torch

        processor, model = self._load()
        rgb = [image.convert("RGB") for image in images]
        inputs = processor(images=rgb, text=None if prompt is None else [prompt] * len(rgb), return_tensors="pt")
        inputs = {
            name: tensor.to(model.device, model.dtype if tensor.is_floating_point() else None)
            for name, tensor in inputs.items()
        }
        # A model that never comes to an end must not run past its last position.
        length = inputs["input_ids"].shape[1] if "input_ids" in inputs else 1
        room = model.config.text_config.max_position_embeddings - length
        with torch.inference_mode():
            tokens = model.generate(
                **inputs, max_new_tokens=min(self.max_new_tokens, room), num_beams=1, do_sample=False
            )
        return [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            import torch
            from transformers import BlipForConditionalGeneration, BlipProcessor

            from .quiet import quiet_loading

            device = torch.device(self.device)
            processor = BlipProcessor.from_pretrained(self.name_or_path, revision=self.revision)
            with quiet_loading():
                model = BlipForConditionalGeneration.from_pretrained(
                    self.name_or_path,
                    revision=self.revision,
                    dtype=torch.float32 if device.type == "cpu" else torch.float16,
                    use_safetensors=True,
                )
            self._loaded = processor, model.eval().requires_grad_(False).to(device)
        return self._loaded


class LabelCaptioner:
    """The class name in a template, and no model: the ablation that shows what captions add.

    **Arguments:**

    - template: the text, with `{class_name}` where the name goes.
    """

    def __init__(self, template: str = "a photo of a {class_name}") -> None:
        if "{class_name}" not in template:
            raise ValueError(f"template is {template!r}; it must contain {{class_name}}")
        self.template = template

    def caption(self, images: Sequence[Image], class_names: Sequence[str] | None = None) -> list[str]:
        """The template, filled in; see `Captioner`. Raises `ValueError` without `class_names`."""
        if class_names is None:
            raise ValueError("LabelCaptioner needs class_names; give them to the strategy or plugin")
        return [self.template.format(class_name=name) for name in class_names]
