"""From images to text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from tqdm import tqdm

from .._support.checks import require_names, require_whole
from .batches import BatchSize, run_batches
from .captioning_models import CaptioningModel
from .composition import ready_captioner

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Captioner(Protocol):
    """All that a new captioner must offer."""

    def caption(self, images: Sequence[Image], class_names: Sequence[str] | None = None) -> list[str]:
        """One caption for each image; `class_names[i]` is the name of the class of `images[i]`, where known."""
        ...


class AutoCaptioner:
    """Captions by an image-to-text checkpoint that transformers' auto classes load: BLIP (Li et al., ICML 2022), BLIP-2
    (Li et al., ICML 2023), GIT (Wang et al., TMLR 2022), or a vision encoder with a text decoder, such as ViT-GPT2.

    The weights are looked for at once, fetched if they are not on this machine, and loaded when the first image is
    captioned: from safetensors where the checkpoint has them, otherwise from a `.bin` by PyTorch's restricted
    unpickler; no code that comes with them is run.

    **Arguments:**

    - name_or_path: a checkpoint on the Hugging Face hub, or a folder as `save_pretrained` writes it.
    - revision: branch, tag or commit on the hub.
    - prefix: how captions begin, such as "a photo of a {class_name}"; the model goes on from there. Not used for images
        whose class name is unknown. None: the model finds all the words itself.
    - max_new_tokens: length of a caption at most, in tokens, without the prefix.
    - batch_size: images captioned at a time at most; fewer while the device has no memory for them, see `BatchSize`.
    - device: where the model runs. None: the CPU; with `model`, where that is.
    - model, processor: loaded already, by transformers, as the caller wants them: quantised, compiled, on a device.
        They are used as they are, and `name_or_path` is not given with them.

    Raises `MissingWeightsError` (an `OSError`) if the checkpoint is not there, not whole, or cannot be fetched, and
    `ValueError` for a kind of model that is not among the above.
    """

    def __init__(
        self,
        name_or_path: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        prefix: str | None = None,
        max_new_tokens: int = 30,
        batch_size: int = 64,
        device: str | torch.device | None = None,
        model: Any = None,
        processor: Any = None,
    ) -> None:
        if (model is None) != (processor is None) or (model is None) == (name_or_path is None):
            raise ValueError("give name_or_path, or a model and its processor, and not both")
        self.given = None if model is None else {"model": model}
        self.name_or_path = os.fspath(model.config._name_or_path if name_or_path is None else name_or_path)
        self.revision = revision
        self.prefix = prefix
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.device: str | torch.device = device or ("cpu" if model is None else model.device)
        self._batch_size = BatchSize(batch_size)
        self._loaded: CaptioningModel | None = None
        if prefix is not None:
            _require_template("prefix", prefix)
        require_whole("max_new_tokens", max_new_tokens)
        require_whole("batch_size", batch_size)
        if model is None:
            ready_captioner(self.name_or_path, revision)
        else:
            self._loaded = CaptioningModel.of(model, processor)

    def caption(self, images: Sequence[Image], class_names: Sequence[str] | None = None) -> list[str]:
        """One caption for each image, greedily decoded; see `Captioner`."""
        require_names("class_names", class_names)
        if class_names is not None and len(class_names) != len(images):
            raise ValueError(
                f"class_names has {len(class_names)} names for {len(images)} images; give the class name of each image"
            )
        # Images are taken in groups of one prompt: some of these models know no padding before a prompt.
        groups: dict[str | None, list[int]] = {}
        for i in range(len(images)):
            prompt = None
            if self.prefix is not None and class_names is not None:
                prompt = self.prefix.format(class_name=class_names[i])
            groups.setdefault(prompt, []).append(i)
        captions = [""] * len(images)
        self._batch_size = self._batch_size.asked_for(self.batch_size)
        with tqdm(total=len(images), desc="captioning", unit="image", leave=False, disable=None) as bar:
            for prompt, members in groups.items():
                texts = run_batches(
                    [images[i] for i in members],
                    self._batch_size,
                    prepare=self._pixels,
                    compute=partial(self._tokens, prompt),
                    finish=partial(self._texts, prompt),
                    device=self.device,
                    done=bar.update,
                )
                for i, text in zip(members, texts, strict=True):
                    captions[i] = text
        return captions

    def _pixels(self, images: Sequence[Image]) -> torch.Tensor:
        rgb = [image.convert("RGB") for image in images]
        pixels: torch.Tensor = self._load().image_processor(images=rgb, return_tensors="pt").pixel_values
        return pixels

    def _tokens(self, prompt: str | None, pixels: torch.Tensor) -> torch.Tensor:
        import torch

        loaded = self._load()
        inputs = {"pixel_values": pixels.to(loaded.model.device, loaded.model.dtype)}
        length = 1
        if prompt is not None:
            name, ids = loaded.tokens_of(prompt)
            length = len(ids)
            inputs[name] = torch.tensor([ids] * len(pixels), device=loaded.model.device)
        # A model that never comes to an end must not run past its last position.
        room = loaded.num_positions - length
        with torch.inference_mode():
            tokens: torch.Tensor = loaded.model.generate(
                **inputs, max_new_tokens=min(self.max_new_tokens, room), num_beams=1, do_sample=False
            )
        return tokens

    def _texts(self, prompt: str | None, tokens: torch.Tensor) -> list[str]:
        texts = [text.strip() for text in self._load().tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        if prompt is None:
            return texts
        # Some models say the prompt again, in their own case and spacing, and some go on from it.
        return [text if text.lower().startswith(prompt.lower()) else f"{prompt} {text}".strip() for text in texts]

    def _load(self) -> CaptioningModel:
        if self._loaded is None:
            self._loaded = CaptioningModel.from_pretrained(self.name_or_path, self.revision, self.device)
        return self._loaded


class BlipCaptioner(AutoCaptioner):
    """Captions by BLIP (Li et al., "BLIP: Bootstrapping Language-Image Pre-training", ICML 2022).

    **Arguments:** those of `AutoCaptioner`; `name_or_path` is a BLIP checkpoint, base or large. None: base.
    """

    def __init__(
        self, name_or_path: str | os.PathLike[str] | None = None, *, model: Any = None, **options: Any
    ) -> None:
        usual = "Salesforce/blip-image-captioning-base" if model is None else None
        super().__init__(usual if name_or_path is None else name_or_path, model=model, **options)

    def features(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """What BLIP's vision model makes of each image, `(n, hidden size)`: the mean of its last hidden states."""
        self._batch_size = self._batch_size.asked_for(self.batch_size)
        rows = run_batches(
            images,
            self._batch_size,
            prepare=self._pixels,
            compute=self._encode,
            finish=lambda rows: list(rows.cpu().numpy()),
            device=self.device,
        )
        return np.stack(rows)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """The mean of the vision model's last hidden states, `(n, hidden size)`, without gradients.

        **Arguments:**

        - images: `(n, 3, h, w)`, values in [0, 1]; they are brought to the model's size.
        """
        import torch
        from torch.nn.functional import interpolate

        loaded = self._load()
        side = loaded.model.config.vision_config.image_size
        resized = interpolate(images, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (
            torch.tensor(getattr(loaded.image_processor, name), device=images.device)[:, None, None]
            for name in ("image_mean", "image_std")
        )
        return self._encode((resized - mean) / std).to(images.device)

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        import torch

        model = self._load().model
        with torch.no_grad():
            output = model.vision_model(pixel_values=pixels.to(model.device, model.dtype))
        return output.last_hidden_state.mean(1).float()


def _require_template(argument: str, template: str) -> None:
    try:
        template.format(class_name="")
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ValueError(
            f"{argument} is {template!r}; {{class_name}} is the only thing in braces that it may hold"
        ) from None


class LabelCaptioner:
    """The class name in a template, and no model: the ablation that shows what captions add.

    **Arguments:**

    - template: the text, with `{class_name}` where the name goes.
    """

    def __init__(self, template: str = "a photo of a {class_name}") -> None:
        if not isinstance(template, str) or "{class_name}" not in template:
            raise ValueError(f"template is {template!r}; it must contain {{class_name}}")
        _require_template("template", template)
        self.template = template

    def caption(self, images: Sequence[Image], class_names: Sequence[str] | None = None) -> list[str]:
        """The template, filled in; see `Captioner`. Raises `ValueError` without `class_names`."""
        if class_names is None:
            raise ValueError("LabelCaptioner needs class_names; give them to the strategy or plugin")
        return [self.template.format(class_name=name) for name in class_names]
