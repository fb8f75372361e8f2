"""From images to text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from .._support.checks import require_names, require_whole
from .._support.console import bar
from ..images.files import as_seen
from .batches import BatchSize, run_batches
from .captioning_models import Asked, CaptioningModel
from .composition import ready_captioner
from .decoding import Decoding, without_loops
from .instructed_models import PROMPT, ChatModel, family_of, model_kind
from .likelihoods import text_log_likelihoods
from .parts import INSTRUCTED
from .prompts import fill, require_template

if TYPE_CHECKING:
    import torch

_NAMELESS = "image"  # in the place of a class name that is not known


@runtime_checkable
class Captioner(Protocol):
    """All that a new captioner must offer.

    ```python
    class ColourCaptioner:
        def caption(self, images, class_names=None):
            colours = [image.convert("RGB").resize((1, 1)).getpixel((0, 0)) for image in images]
            return ["rgb({}, {}, {})".format(*colour) for colour in colours]

    colours_only = Pair(ColourCaptioner(), pair.generator)
    strategy = CLTS(model=model, optimizer=Adam(model.parameters()), pair=colours_only)
    ```
    """

    def caption(self, images: Sequence[Image], class_names: Sequence[str] | None = None) -> list[str]:
        """One caption for each image; `class_names[i]` is the name of the class of `images[i]`, where known."""
        ...


@dataclass(frozen=True)
class _Batch:
    """Images as the model takes them, and what is asked of each one's caption, and its seed."""

    inputs: dict[str, torch.Tensor]
    asked: list[Asked]
    seeds: list[int]

    def __len__(self) -> int:
        return len(self.seeds)


class AutoCaptioner:
    """Captions by an image-to-text checkpoint that transformers' auto classes load: BLIP (Li et al., ICML 2022), BLIP-2
    (Li et al., ICML 2023), GIT (Wang et al., TMLR 2022), a vision encoder with a text decoder, such as ViT-GPT2; or one
    that takes instructions: SmolVLM, Qwen2.5-VL, Qwen3-VL, Florence-2 (Xiao et al., CVPR 2024).

    The weights are looked for at once, fetched if they are not on this machine, and loaded when they are first needed
    (by a strategy, before anything is trained): from safetensors where the checkpoint has them, otherwise from a `.bin`
    by PyTorch's restricted unpickler; no code that comes with them is run.

    ```python
    captioner = AutoCaptioner("my-pair/captioner", max_new_tokens=20)  # or from the hub: "microsoft/git-base-coco"
    captions = captioner.caption([Image.open(path) for path in Path("photos").glob("*/*.png")])
    ```

    **Arguments:**

    - name_or_path: a checkpoint on the Hugging Face hub, or a folder as `save_pretrained` writes it.
    - revision: branch, tag or commit on the hub.
    - prefix: how captions begin, such as "a photo of a {class_name}" ("an" where the name wants it); the model goes on
        from there. Not used for images whose class name is unknown. None: the model finds all the words itself.
    - prompt: what a model that takes instructions is told, such as "Describe the {class_name} in one short sentence:
        colours, pose, background."; where the class name is unknown, "image" takes its place. With a prefix, the answer
        begins with that. None: what is said here; "<CAPTION>", one of its tasks, for Florence-2.
    - max_new_tokens, min_new_tokens: length of a caption at most and at least, in tokens, without the prefix.
    - num_beams: captions that are followed up at a time, of which the likeliest is taken. 1: always the likeliest
        word.
    - top_p: the next word is drawn from the likeliest that have this probability together (nucleus sampling: Holtzman
        et al., ICLR 2020), for each image by random numbers of its own. None: nothing is drawn.
    - seed: of what is drawn; with the same, an image has the same caption.
    - repetition_penalty: by which words that were said get less likely (Keskar et al., 2019). 1: none.
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
        prompt: str | None = None,
        max_new_tokens: int = 30,
        min_new_tokens: int = 0,
        num_beams: int = 1,
        top_p: float | None = None,
        seed: int = 0,
        repetition_penalty: float = 1.0,
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
        self.prompt = prompt
        self.max_new_tokens = max_new_tokens
        self.decoding = Decoding(num_beams, top_p, seed, min_new_tokens, repetition_penalty)
        self.batch_size = batch_size
        self.device: str | torch.device = device or ("cpu" if model is None else model.device)
        self._batch_size = BatchSize(batch_size)
        self._loaded: CaptioningModel | None = None
        if prefix is not None:
            require_template("prefix", prefix)
        require_whole("max_new_tokens", max_new_tokens)
        self.decoding.check(max_new_tokens)
        require_whole("batch_size", batch_size)
        if model is None:
            family = ready_captioner(self.name_or_path, revision).listing.json("config.json")["model_type"]
        else:
            family = family_of(model)
        if family in INSTRUCTED:  # whose texts stand within a conversation
            self.log_likelihoods = None  # type: ignore[method-assign, assignment]
        if prompt is not None:
            require_template("prompt", prompt)
            if family not in INSTRUCTED:
                raise ValueError(
                    f"prompt is {prompt!r}, and {self.name_or_path} is a {family} model, which takes none; give a "
                    f"prefix, or a model that takes instructions: {', '.join(INSTRUCTED)}"
                )
        self._kind = model_kind(family)
        if model is not None:
            self._loaded = self._kind.of(model, processor)

    def caption(self, images: Sequence[Image], class_names: Sequence[str] | None = None) -> list[str]:
        """One caption for each image; see `Captioner`. It begins with the prefix as it was given, and what a model says
        three or more times in a row ("cat cat cat") is said once."""
        require_names("class_names", class_names)
        if class_names is not None and len(class_names) != len(images):
            raise ValueError(
                f"class_names has {len(class_names)} names for {len(images)} images; give the class name of each image"
            )
        asked = [self._asked(None if class_names is None else class_names[i]) for i in range(len(images))]
        groups: dict[str | None, list[int]] = {}
        for i, one in enumerate(asked):
            groups.setdefault(None if self._kind.mixes else one.prefix, []).append(i)
        captions = [""] * len(images)
        self._batch_size = self._batch_size.asked_for(self.batch_size)
        with bar(total=len(images), desc="captioning", unit="image", leave=False) as shown:
            for members in groups.values():
                texts = run_batches(
                    members,
                    self._batch_size,
                    prepare=lambda batch: self._inputs([images[i] for i in batch], [asked[i] for i in batch]),
                    compute=lambda batch: (batch.asked, self._tokens(batch)),
                    finish=lambda made: self._texts(*made),
                    device=self.device,
                    done=shown.update,
                )
                for i, text in zip(members, texts, strict=True):
                    captions[i] = text
        return captions

    def _asked(self, class_name: str | None) -> Asked:
        """Of the caption of an image of this class."""
        prefix = self.prefix if class_name is None or self.prefix is None else fill(self.prefix, class_name)
        prompt = self.prompt or (PROMPT if self._kind is ChatModel else None)
        return Asked(
            None if class_name is None else prefix,
            None if prompt is None else fill(prompt, class_name or _NAMELESS),
        )

    def with_prefix(self, prefix: str) -> AutoCaptioner:
        """This captioner with another prefix, such as one that a stream asks for; itself if it has none, as one that
        was trained to find all the words."""
        if self.prefix is None:
            return self
        require_template("prefix", prefix)
        other = copy(self)
        other.prefix = prefix
        return other

    def log_likelihoods(self, images: Sequence[Image], texts: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        """log p(text | image); see `HasLikelihoods`. What a prompt adds to a text before it is not counted."""
        for of_image in texts:
            require_names("texts", of_image)
        if len(texts) != len(images):
            raise ValueError(f"texts has {len(texts)} lists for {len(images)} images; give the texts of each image")
        self._batch_size = self._batch_size.asked_for(self.batch_size)
        return run_batches(
            list(zip(images, texts, strict=True)),
            self._batch_size,
            prepare=lambda pairs: (self._pixels([image for image, _ in pairs]), [of_image for _, of_image in pairs]),
            compute=lambda prepared: self._log_likelihoods(*prepared),
            finish=lambda rows: [row.numpy() for row in rows],
            device=self.device,
        )

    def _log_likelihoods(self, pixels: torch.Tensor, texts: Sequence[Sequence[str]]) -> list[torch.Tensor]:
        loaded = self._load()
        pixels = pixels.to(loaded.model.device, loaded.model.dtype)
        return text_log_likelihoods(loaded, pixels, texts, at_once=4 * self.batch_size)

    def _pixels(self, images: Sequence[Image]) -> torch.Tensor:
        return self._inputs(images).inputs["pixel_values"]

    def _inputs(self, images: Sequence[Image], asked: Sequence[Asked] | None = None) -> _Batch:
        asked = list(asked or [Asked()] * len(images))
        rgb = [as_seen(image).convert("RGB") for image in images]
        return _Batch(self._load().inputs(rgb, asked), asked, self.decoding.seeds(images))

    def _tokens(self, batch: _Batch) -> torch.Tensor:
        return self._load().generate(
            batch.inputs, batch.asked, self.max_new_tokens, partial(self.decoding.arguments, batch.seeds)
        )

    def _texts(self, asked: Sequence[Asked], tokens: torch.Tensor) -> list[str]:
        texts = []
        for one, row in zip(asked, tokens.tolist(), strict=True):
            prefix, added = one.prefix or "", self._load().added(one, row)
            text = without_loops(prefix + added)
            # What looks like a loop in a class name is its spelling.
            texts.append(text if text.startswith(prefix) else prefix + without_loops(added))
        return texts

    def load(self) -> None:
        """Load the weights now, not when they are first needed.

        Raises `MissingWeightsError` if they are not those of the model that the checkpoint's configuration describes.
        """
        self._load()

    def _load(self) -> CaptioningModel:
        if self._loaded is None:
            self._loaded = self._kind.from_pretrained(self.name_or_path, self.revision, self.device)
        return self._loaded


class BlipCaptioner(AutoCaptioner):
    """Captions by BLIP (Li et al., "BLIP: Bootstrapping Language-Image Pre-training", ICML 2022).

    ```python
    captioner = BlipCaptioner("my-pair/captioner", batch_size=16)
    images = [Image.open(path) for path in Path("photos").glob("*/*.png")]
    captions, features = captioner.caption(images), captioner.features(images)
    ```

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


class LabelCaptioner:
    """The class name in a template, and no model: the ablation that shows what captions add.

    ```python
    names_only = Pair(LabelCaptioner("a handwritten {class_name}"), pair.generator)
    strategy = CLTS(model=model, optimizer=Adam(model.parameters()), pair=names_only)
    ```

    **Arguments:**

    - template: the text, with `{class_name}` where the name goes; "a {class_name}" becomes "an apple".
    """

    def __init__(self, template: str = "a photo of a {class_name}") -> None:
        if not isinstance(template, str) or "{class_name}" not in template:
            raise ValueError(f"template is {template!r}; it must contain {{class_name}}")
        require_template("template", template)
        self.template = template

    def caption(self, images: Sequence[Image], class_names: Sequence[str] | None = None) -> list[str]:
        """The template, filled in; see `Captioner`. Raises `ValueError` without `class_names`."""
        if class_names is None:
            raise ValueError("LabelCaptioner needs class_names; give them to the strategy or plugin")
        return [fill(self.template, name) for name in class_names]

    def with_prefix(self, prefix: str) -> LabelCaptioner:
        """One that says `prefix` with the class name in it."""
        return LabelCaptioner(prefix)
