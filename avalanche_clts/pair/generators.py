"""From text to images."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from PIL.Image import Image
from tqdm import tqdm

from .._support.checks import require_names, require_one_of, require_whole
from .batches import run_batches
from .linear_decoder import LinearDecoder
from .precision import fast_multiplication, half_precision
from .weights import require_weights

if TYPE_CHECKING:
    import torch


Decoder = Literal["auto", "autoencoder", "linear"]
_FINER = 2  # latent pixels a pixel, at least, where decoder "auto" trusts the linear one


@runtime_checkable
class Generator(Protocol):
    """All that a new generator must offer."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image]:
        """One RGB image for each prompt. `seeds[i]` alone decides the noise that image i is made from."""
        ...


def needing(generator: Generator, size: tuple[int, int] | None) -> AbstractContextManager[None]:
    """A context in which images are wanted no larger than `size`, `(width, height)`, for generators that then spend
    less. None: not known."""
    if size is None or not hasattr(generator, "needing"):
        return nullcontext()
    context: AbstractContextManager[None] = generator.needing(size)
    return context


class DiffusionGenerator:
    """Images by any text-to-image pipeline that diffusers' `AutoPipelineForText2Image` loads.

    The weights are looked for at once, and loaded when the first image is generated.

    **Arguments:**

    - name_or_path: a pipeline on the Hugging Face hub, or a folder as `save_pretrained` writes it.
    - revision: branch, tag or commit on the hub.
    - variant: of the weights' files, such as "fp16".
    - scheduler: name of a class of diffusers, such as "LCMScheduler". None: the pipeline's own.
    - lora: low-rank weights to add, a repository on the hub or a folder; needs `pip install "avalanche-clts[lora]"`.
    - autoencoder: another one for the same latents, such as "madebyollin/taesd", which is smaller and faster; a
        repository on the hub or a folder. None: the pipeline's own.
    - decoder: what makes pixels of latents. "autoencoder"; "linear", an image the size of the latents, an eighth of the
        pipeline's: see `LinearDecoder`; "auto": linear where a stream's images are at most half the latents' size.
    - steps: denoising steps. None: the pipeline's own default.
    - guidance_scale: of classifier-free guidance; 1 turns it off, which halves the work. Training data wants it low,
        near 2 (Sariyildiz et al., CVPR 2023). None: the pipeline's own default.
    - height, width: of the generated images, in pixels. None: the size that the pipeline was trained at.
    - batch_size: images generated at a time; halved where the device runs out of memory.
    - device: where the pipeline runs.
    - offload: where it waits between calls ("cpu"), to leave an accelerator's memory to the training. None: it stays.
    - compile: whether `torch.compile` makes the denoiser faster, or the name of its backend; the first images then take
        a minute longer.

    Prompts longer than the text encoder has room for lose their ends; `num_cut_prompts` counts them.

    Raises `MissingWeightsError` (an `OSError`) if the checkpoint is not there, not whole, or cannot be fetched.
    """

    def __init__(
        self,
        name_or_path: str | os.PathLike[str] = "stable-diffusion-v1-5/stable-diffusion-v1-5",
        *,
        revision: str | None = None,
        variant: str | None = None,
        scheduler: str | None = None,
        lora: str | None = None,
        autoencoder: str | os.PathLike[str] | None = None,
        decoder: Decoder = "autoencoder",
        steps: int | None = None,
        guidance_scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
        batch_size: int = 64,
        device: str | torch.device = "cpu",
        offload: str | None = None,
        compile: bool | str = False,
    ) -> None:
        self.name_or_path = os.fspath(name_or_path)
        self.revision = revision
        self.variant = variant
        self.scheduler = scheduler
        self.lora = lora
        self.autoencoder = None if autoencoder is None else os.fspath(autoencoder)
        self.decoder = decoder
        self.steps = steps
        self.guidance_scale = guidance_scale
        self.height = height
        self.width = width
        self.batch_size = batch_size
        self.device = device
        self.offload = offload
        self.compile = compile
        self.num_cut_prompts = 0
        self._pipeline: Any = None
        self._fitted: list[LinearDecoder] = []  # one at most; shared by copies, as the pipeline is
        self._needed: tuple[int, int] | None = None
        require_one_of("decoder", decoder, Decoder)
        for size in ("steps", "height", "width"):
            require_whole(size, getattr(self, size), none="the pipeline's own")
        require_whole("batch_size", batch_size)
        if guidance_scale is not None and not (isinstance(guidance_scale, (int, float)) and guidance_scale >= 0):
            raise ValueError(
                f"guidance_scale is {guidance_scale!r}; it must be a number of at least 0 (1 turns guidance off)"
            )
        require_weights(self.name_or_path, entry="model_index.json", revision=revision)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image]:
        """One image for each prompt; see `Generator`. Raises `ValueError` unless there is a seed for each prompt."""
        require_names("prompts", prompts)
        if len(prompts) != len(seeds):
            raise ValueError(f"prompts and seeds must be as many: {len(prompts)} prompts, {len(seeds)} seeds")
        pipeline = self._load()
        # Equal prompts stand together, so that each is encoded once a batch.
        order = sorted(range(len(prompts)), key=lambda i: prompts[i])
        with tqdm(total=len(prompts), desc="generating", unit="image", leave=False, disable=None) as bar:
            images, self.batch_size = run_batches(
                order,
                self.batch_size,
                prepare=lambda batch: ([prompts[i] for i in batch], [seeds[i] for i in batch]),
                compute=lambda batch: self._generate_batch(*batch),
                finish=_to_images,
                device=self.device,
                done=bar.update,
            )
        if self.offload is not None:
            pipeline.to(self.offload)
        return [image for _, image in sorted(zip(order, images, strict=True), key=lambda pair: pair[0])]

    @contextmanager
    def needing(self, size: tuple[int, int]) -> Iterator[None]:
        """Within this context images are wanted no larger than `size`, `(width, height)`; decoder "auto" heeds it."""
        before, self._needed = self._needed, size
        try:
            yield
        finally:
            self._needed = before

    def _decodes_linearly(self) -> bool:
        from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

        if self.decoder != "auto":
            return self.decoder == "linear"
        if self._needed is None or not isinstance(self._pipeline, (StableDiffusionPipeline, StableDiffusionXLPipeline)):
            return False
        side = self._pipeline.unet.config.sample_size
        scale = self._pipeline.vae_scale_factor
        latents = [side if pixels is None else pixels // scale for pixels in (self.width, self.height)]
        return all(have >= _FINER * need for have, need in zip(latents, self._needed, strict=True))

    def _generate_batch(self, prompts: list[str], seeds: list[int]) -> torch.Tensor:
        """RGB, uint8, `(n, h, w, 3)`."""
        import torch

        chosen = {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "height": self.height,
            "width": self.width,
        }
        options: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
        linearly = self._decodes_linearly()
        options["output_type"] = "latent" if linearly else "pt"
        # Noise is drawn on the CPU, image by image: it does not depend on the device or on the batch.
        noise = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        # On an accelerator the weights themselves are in half precision.
        on_cpu = torch.device(self.device).type == "cpu"
        with torch.inference_mode():
            with fast_multiplication("cpu") if on_cpu else nullcontext():
                output = self._pipeline(**self._encode(prompts), generator=noise, **options).images
            if linearly:
                if not self._fitted:
                    self._fitted.append(LinearDecoder(self._pipeline.vae))
                output = self._fitted[0].decode(output)
            if not bool(torch.isfinite(output).all()):
                raise FloatingPointError(
                    f"{self.name_or_path} made images with values that are not finite, in {output.dtype}; "
                    "use another variant, another autoencoder, or the CPU"
                )
            return (255 * output.float()).round().to(torch.uint8).permute(0, 2, 3, 1)

    def _encode(self, prompts: list[str]) -> dict[str, Any]:
        """What the pipeline is given in the place of the prompts: their encodings, each distinct prompt's made once."""
        from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

        pipeline = self._pipeline
        if not isinstance(pipeline, (StableDiffusionPipeline, StableDiffusionXLPipeline)):
            return {"prompt": prompts}
        default = inspect.signature(pipeline.__call__).parameters["guidance_scale"].default
        guidance = default if self.guidance_scale is None else self.guidance_scale
        distinct = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        seen = [self._cut(prompt) for prompt in distinct]
        self.num_cut_prompts += sum(seen[distinct[prompt]] != prompt for prompt in prompts)
        encodings = pipeline.encode_prompt(
            prompt=seen,
            device=pipeline.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=guidance > 1,
        )
        names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
        rows = [distinct[prompt] for prompt in prompts]
        return {name: tensor[rows] for name, tensor in zip(names, encodings, strict=False) if tensor is not None}

    def _cut(self, prompt: str) -> str:
        """As much of the prompt as the text encoder has room for."""
        tokens = self._pipeline.tokenizer(prompt, truncation=True, return_offsets_mapping=True)
        end = max(end for _, end in tokens.offset_mapping)
        return prompt if not prompt[end:].strip() else prompt[:end]

    def autoencode(self, images: torch.Tensor) -> torch.Tensor:
        """Images after the pipeline's autoencoder, encoded and decoded: what generation does to every image's detail.

        **Arguments:**

        - images: `(n, 3, h, w)`, values in [0, 1]; they are brought to the pipeline's size and back.
        """
        import torch
        from torch.nn.functional import interpolate

        pipeline = self._load()
        side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
        with torch.no_grad():
            resized = interpolate(images, size=(side, side), mode="bicubic", antialias=True)
            pixels = (2 * resized - 1).to(pipeline.device, pipeline.vae.dtype)
            decoded = pipeline.vae.decode(pipeline.vae.encode(pixels).latent_dist.mode()).sample
            restored = ((decoded.to(images) + 1) / 2).clamp(0, 1)
            return interpolate(restored, size=images.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)

    def _load(self) -> Any:
        if self._pipeline is None:
            from diffusers import AutoPipelineForText2Image

            from .quiet import quiet_loading

            with quiet_loading():
                self._pipeline = AutoPipelineForText2Image.from_pretrained(
                    self.name_or_path,
                    revision=self.revision,
                    variant=self.variant,
                    dtype=half_precision(self.device),
                    use_safetensors=True,
                )
                if self.autoencoder is not None:
                    self._pipeline.vae = _load_autoencoder(self.autoencoder, self._pipeline.vae.dtype)
                if self.scheduler is not None:
                    self._change_scheduler(self.scheduler)
                if self.lora is not None:
                    self._add_lora(self.lora)
            self._pipeline.set_progress_bar_config(disable=True)
            self._make_fast()
        return self._pipeline.to(self.device)

    def _make_fast(self) -> None:
        import torch

        denoiser = getattr(self._pipeline, "unet", None) or self._pipeline.transformer
        if torch.device(self.device).type != "cpu":
            for part in (denoiser, self._pipeline.vae):
                part.to(memory_format=torch.channels_last)
        if self.compile:
            denoiser.compile(**({"backend": self.compile} if isinstance(self.compile, str) else {}))

    def _change_scheduler(self, name: str) -> None:
        import diffusers

        scheduler = getattr(diffusers, name, None)
        if scheduler is None or not hasattr(scheduler, "from_config"):
            raise ValueError(f"scheduler is {name!r}; it must be the name of one of diffusers' schedulers")
        self._pipeline.scheduler = scheduler.from_config(self._pipeline.scheduler.config)

    def _add_lora(self, name_or_path: str) -> None:
        from importlib.util import find_spec

        if find_spec("peft") is None:
            raise ImportError(f'lora is {name_or_path!r}, which needs peft; run: pip install "avalanche-clts[lora]"')
        self._pipeline.load_lora_weights(name_or_path, use_safetensors=True)
        self._pipeline.fuse_lora()
        self._pipeline.unload_lora_weights()


def _to_images(pixels: torch.Tensor) -> list[Image]:
    from PIL import Image

    return [Image.fromarray(array) for array in pixels.cpu().numpy()]


def _load_autoencoder(name_or_path: str, dtype: torch.dtype) -> Any:
    """A full autoencoder or a tiny one, as its configuration says."""
    import diffusers

    config, _ = diffusers.AutoencoderKL.load_config(name_or_path, return_unused_kwargs=True)
    kind = config.get("_class_name", "AutoencoderKL")
    if kind not in ("AutoencoderKL", "AutoencoderTiny"):
        raise ValueError(f"autoencoder is {name_or_path}, a {kind}; it must be an AutoencoderKL or an AutoencoderTiny")
    return getattr(diffusers, kind).from_pretrained(name_or_path, torch_dtype=dtype, use_safetensors=True)
