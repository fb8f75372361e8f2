"""From text to images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from PIL.Image import Image

from .._support.checks import require_flag, require_kind, require_names, require_one_of, require_whole
from .._support.console import bar
from ..choices import RouterView
from .batches import BatchSize, run_batches
from .composition import LOADING, STABLE_DIFFUSION, Plans, ready_generator
from .devices import require_device
from .estimates import Estimate
from .linear_decoder import LinearDecoder, latents_of, suffices
from .pipeline_kinds import ONE_OF, PipelineKind, kind_of, native_size, not_linear
from .pipelines import load_pipeline, make_fast
from .precision import fast_multiplication
from .prompt_encoding import encode_prompts, is_cut
from .rgb import to_size
from .sizes import fitting_size
from .slices import PIXELS, Slices

if TYPE_CHECKING:
    import torch


Decoder = Literal["auto", "autoencoder", "linear"]


@runtime_checkable
class Generator(Protocol):
    """All that a new generator must offer.

    ```python
    class PatchGenerator:
        def generate(self, prompts, seeds):
            return [Image.new("RGB", (32, 32), prompt) for prompt in prompts]

    images = PatchGenerator().generate(["navy", "rgb(200, 30, 30)"], seeds=[0, 1])
    ```
    """

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image]:
        """One RGB image for each prompt. `seeds[i]` alone decides the noise that image i is made from."""
        ...


class DiffusionGenerator:
    """Images by a text-to-image pipeline of diffusers: Stable Diffusion 1 to 3.5 and XL, turbo and latent-consistency
    models among them, FLUX.1, PixArt, Sana and Sana-Sprint.

    The weights are looked for at once, fetched if they are not on this machine, and loaded when they are first needed
    (by a strategy, before anything is trained).

    ```python
    generator = DiffusionGenerator("my-pair/generator", steps=2, guidance_scale=1.0)
    images = generator.generate(["a small red star on navy", "a large ring on beige"], seeds=[0, 1])
    ```

    **Arguments:**

    - name_or_path: a pipeline on the Hugging Face hub, or a folder as `save_pretrained` writes it. None: Stable
        Diffusion 1.5.
    - revision: branch, tag or commit on the hub.
    - variant: of the weights' files, such as "fp16".
    - scheduler: name of a class of diffusers, such as "LCMScheduler". None: the pipeline's own.
    - lora: low-rank weights to add: a repository on the hub, a folder, or a file of weights; needs
        `pip install "avalanche-clts[lora]"`.
    - lora_revision: branch, tag or commit on the hub.
    - lora_weight_name: the file of the repository or folder. None: the only one, or `pytorch_lora_weights.safetensors`.
    - autoencoder: another one for the same latents, such as "madebyollin/taesd", which is smaller and faster; a
        repository on the hub or a folder. None: the pipeline's own.
    - autoencoder_revision: branch, tag or commit on the hub.
    - safety_checker: whether images go through the pipeline's safety checker, if it has one, which blacks out some.
        Without it the checkpoint's licence binds as before: who turns it off answers for what is made, and should not
        show it to the public unfiltered.
    - decoder: what makes pixels of latents. "autoencoder"; "linear", an image the size of the latents, an eighth of the
        pipeline's: see `LinearDecoder`; "auto": linear where images of at most half the latents' size are asked for,
        see `generate_sized`. What is decoded linearly goes around the safety checker.
    - steps: denoising steps. None: the pipeline's own default.
    - guidance_scale: of classifier-free guidance; 1 turns it off, which halves the work. Training data wants it low,
        near 2 (Sariyildiz et al., CVPR 2023). None: the pipeline's own default.
    - height, width: of the generated images, in pixels. None: the size that the pipeline was trained at; for images
        that are then brought to another shape (`generate_sized`), about that shape, and as many pixels.
    - batch_size: images generated at a time at most; fewer while the device has no memory for them, see `BatchSize`.
        They are decoded a million pixels at a time, and fewer where that is too many: see `Slices`.
    - device: where the pipeline runs. None: the CPU; with `pipeline`, where that is.
    - offload: where it waits between calls ("cpu"), to leave an accelerator's memory to the training. None: it stays.
    - compile: whether `torch.compile` makes the denoiser faster, or the name of its backend; the first images then take
        a minute longer.
    - router_view: what a router had best be shown that learns from these images: "input", or "autoencoded", what
        `autoencode` makes of it. `CLTS` takes it where it is given none; no image depends on it.
    - pipeline: one that is loaded already, with the scheduler, low-rank weights, quantisation or offloading that
        diffusers gave it; it is used as it is, and none of the arguments that say what to load can be given with it.

    Prompts longer than the text encoder has room for lose their ends; `cut_prompts` counts them.

    Raises `MissingWeightsError` (an `OSError`) if the checkpoint is not there, not whole, or cannot be fetched,
    `ValueError` for a variant, scheduler, autoencoder, low-rank weights or size that do not fit it, and `ImportError`
    for low-rank weights without peft.
    """

    def __init__(
        self,
        name_or_path: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        variant: str | None = None,
        scheduler: str | None = None,
        lora: str | os.PathLike[str] | None = None,
        lora_revision: str | None = None,
        lora_weight_name: str | None = None,
        autoencoder: str | os.PathLike[str] | None = None,
        autoencoder_revision: str | None = None,
        safety_checker: bool = True,
        decoder: Decoder = "autoencoder",
        steps: int | None = None,
        guidance_scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
        batch_size: int = 64,
        device: str | torch.device | None = None,
        offload: str | None = None,
        compile: bool | str = False,
        router_view: RouterView = "input",
        pipeline: Any = None,
    ) -> None:
        self.name_or_path = os.fspath(STABLE_DIFFUSION if name_or_path is None else name_or_path)
        self.revision = revision
        self.variant = variant
        self.scheduler = scheduler
        self.lora = None if lora is None else os.fspath(lora)
        self.lora_revision = lora_revision
        self.lora_weight_name = lora_weight_name
        self.autoencoder = None if autoencoder is None else os.fspath(autoencoder)
        self.autoencoder_revision = autoencoder_revision
        self.safety_checker = safety_checker
        self.decoder = decoder
        self.steps = steps
        self.guidance_scale = guidance_scale
        self.height = height
        self.width = width
        self.batch_size = batch_size
        self.device: str | torch.device = "cpu" if device is None else device
        self.offload = offload
        self.compile = compile
        self.router_view = router_view
        self._batch_size = BatchSize(batch_size)
        self._slices = Slices()
        self._pipeline: Any = None
        self._plans: Plans = {}
        self._is_given = pipeline is not None
        self._placed = True  # whether the pipeline is moved to the device for each call
        self._fitted: list[LinearDecoder] = []  # one at most; shared by copies, as the pipeline is
        require_one_of("decoder", decoder, Decoder)
        require_one_of("router_view", router_view, RouterView)
        for size in ("steps", "height", "width"):
            require_whole(size, getattr(self, size), none="the pipeline's own")
        require_whole("batch_size", batch_size)
        require_flag("safety_checker", safety_checker)
        require_device("device", self.device)
        if offload is not None:
            require_device("offload", offload)
        require_backend(compile)
        if guidance_scale is not None and not (isinstance(guidance_scale, (int, float)) and guidance_scale >= 0):
            raise ValueError(
                f"guidance_scale is {guidance_scale!r}; it must be a number of at least 0 (1 turns guidance off)"
            )
        loading = {name: getattr(self, name) for name in LOADING}
        if pipeline is None:
            self._plans = ready_generator(
                loading | {"decoder": decoder, "steps": steps, "height": height, "width": width}
            )
        else:
            usual = {
                "name_or_path": STABLE_DIFFUSION if name_or_path is None else None,
                "safety_checker": True,
                "compile": False,
            }
            loading["compile"] = compile
            self._take(pipeline, device, [name for name, value in loading.items() if value != usual.get(name)])

    def _take(self, pipeline: Any, device: str | torch.device | None, given: list[str]) -> None:
        """A pipeline that the caller has loaded, and is not to be loaded again."""
        from diffusers import DiffusionPipeline

        require_kind("pipeline", pipeline, DiffusionPipeline, "a pipeline of diffusers")
        if given:
            raise ValueError(f"pipeline is given, and {', '.join(given)} too; set that on the pipeline itself")
        kind = kind_of(pipeline)
        if kind is None:
            raise ValueError(f"pipeline is a {type(pipeline).__name__}; {ONE_OF}")
        absent = [name for name in ("vae", "tokenizer", "text_encoder") if getattr(pipeline, name, None) is None]
        if absent:
            raise ValueError(f"pipeline has no {', '.join(absent)}; give one that is loaded whole")
        if self.decoder == "linear" and not kind.linear:
            raise ValueError(not_linear("pipeline", type(pipeline).__name__))
        self.name_or_path = str(pipeline.config.get("_name_or_path") or type(pipeline).__name__)
        self._pipeline = pipeline
        if device is None:
            # Where it computes, which is not where its weights wait if diffusers offloads them.
            self.device = getattr(pipeline, "_execution_device", pipeline.device)
            self._placed = self.offload is not None
        if not hasattr(pipeline, "_progress_bar_config"):  # one bar a batch would be too many
            pipeline.set_progress_bar_config(disable=True)

    @property
    def given(self) -> dict[str, Any] | None:
        """The parts, as they are now, of a pipeline that was given loaded."""
        return dict(self._pipeline.components) if self._is_given else None

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image]:
        """One image for each prompt; see `Generator`. Raises `ValueError` unless there is a seed for each prompt, and
        `FloatingPointError` for images with values that are not finite."""
        return self._generate(prompts, seeds, None)

    def generate_sized(self, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int]) -> list[Image]:
        """As `generate`, each image brought to `size`, `(width, height)` in pixels, as soon as its batch is there.

        Decoder "auto" chooses by it.
        """
        return self._generate(prompts, seeds, size)

    def cut_prompts(self, prompts: Sequence[str]) -> int:
        """How many of the prompts are longer than the text encoder, of several the roomiest, has room for."""
        pipeline = self._load()
        cut = {prompt for prompt in set(prompts) if is_cut(pipeline, self._kind, prompt)}
        return sum(prompt in cut for prompt in prompts)

    def autoencode(self, images: torch.Tensor) -> torch.Tensor:
        """Images after the pipeline's autoencoder, encoded and decoded: what generation does to every image's detail.

        **Arguments:**

        - images: `(n, 3, h, w)`, values in [0, 1]; they are brought to the pipeline's size and back.
        """
        import torch
        from torch.nn.functional import interpolate

        pipeline = self._on_device()
        height, width = native_size(pipeline)

        def restored(some: torch.Tensor) -> torch.Tensor:
            resized = interpolate(some, size=(height, width), mode="bicubic", antialias=True)
            pixels = (2 * resized - 1).to(self.device, pipeline.vae.dtype)
            decoded = pipeline.vae.decode(latents_of(pipeline.vae.encode(pixels))).sample
            self._require_finite(decoded)
            seen = ((decoded.to(some) + 1) / 2).clamp(0, 1)
            return interpolate(seen, size=images.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)

        try:
            with torch.no_grad():
                return torch.cat([restored(some) for some in images.split(max(1, PIXELS // (height * width)))])
        finally:
            if self.offload is not None:
                pipeline.to(self.offload)

    def _generate(self, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int] | None) -> list[Image]:
        require_names("prompts", prompts)
        if len(prompts) != len(seeds):
            raise ValueError(f"prompts and seeds must be as many: {len(prompts)} prompts, {len(seeds)} seeds")
        pipeline = self._on_device()
        made = self._made(size)
        linearly = self._decodes_linearly(made, size)
        # Equal prompts stand together, so that each is encoded once a batch.
        order = sorted(range(len(prompts)), key=lambda i: prompts[i])
        self._batch_size = self._batch_size.asked_for(self.batch_size)
        estimate = Estimate(f"generating {len(prompts):,} images", len(prompts))
        with bar(total=len(prompts), desc="generating", unit="image", leave=False) as shown:
            images = run_batches(
                order,
                self._batch_size,
                prepare=lambda batch: ([prompts[i] for i in batch], [seeds[i] for i in batch]),
                compute=lambda batch: self._generate_batch(batch[0], batch[1], made, linearly),
                finish=partial(_to_images, size=size),
                device=self.device,
                done=lambda count: estimate.done(shown, count),
            )
        if self.offload is not None:
            pipeline.to(self.offload)
        return [image for _, image in sorted(zip(order, images, strict=True), key=lambda pair: pair[0])]

    def _made(self, size: tuple[int, int] | None) -> tuple[int, int]:
        """Width and height in which images are generated that are to be of `size`."""
        pipeline = self._load()
        if self.width is None and self.height is None:
            return fitting_size(pipeline, size)
        height, width = native_size(pipeline)  # diffusers would heed neither where one is missing
        return self.width or width, self.height or height

    def _decodes_linearly(self, made: tuple[int, int], size: tuple[int, int] | None) -> bool:
        if self.decoder != "auto":
            return self.decoder == "linear"
        pipeline = self._load()
        return self._kind.linear and suffices(pipeline, made, size)

    def _generate_batch(
        self, prompts: list[str], seeds: list[int], made: tuple[int, int], linearly: bool
    ) -> torch.Tensor:
        """RGB, uint8, `(n, h, w, 3)`."""
        import torch

        pipeline = self._load()
        chosen = {"num_inference_steps": self.steps, "guidance_scale": self.guidance_scale}
        options: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
        options |= self._kind.calling(self.steps) | {"width": made[0], "height": made[1]}
        options["output_type"] = "latent" if linearly else "pt"
        # Noise is drawn on the CPU, image by image: it does not depend on the device or on the batch.
        options["generator"] = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        # On an accelerator the weights themselves are in half precision.
        on_cpu = torch.device(self.device).type == "cpu"
        with torch.inference_mode():
            with self._slices.of(pipeline), fast_multiplication("cpu") if on_cpu else nullcontext():
                output = pipeline(
                    **encode_prompts(pipeline, self._kind, prompts, self.guidance_scale), **options
                ).images
            if linearly:
                if not self._fitted:
                    _say_what_is_unchecked(pipeline)
                    self._fitted.append(LinearDecoder(pipeline.vae))
                output = self._fitted[0].decode(output)
            self._require_finite(output)
            return (255 * output.float()).round().to(torch.uint8).permute(0, 2, 3, 1)

    def _require_finite(self, output: torch.Tensor) -> None:
        if not bool(output.isfinite().all()):
            raise FloatingPointError(
                f"{self.name_or_path} made images with values that are not finite, in {output.dtype}; "
                "use another variant, another autoencoder, or the CPU"
            )

    @property
    def _kind(self) -> PipelineKind:
        kind = kind_of(self._load())
        assert kind is not None, "others were refused"
        return kind

    def _on_device(self) -> Any:
        pipeline = self._load()
        return pipeline.to(self.device) if self._placed else pipeline

    def load(self) -> None:
        """Load the weights now, not when they are first needed.

        Raises `MissingWeightsError` if they are not those of the model that the checkpoint's configuration describes.
        """
        self._load()

    def _load(self) -> Any:
        if self._pipeline is None:
            self._pipeline = load_pipeline(self._plans, scheduler=self.scheduler, device=self.device)
            make_fast(self._pipeline, self.device, self.compile)
        return self._pipeline


def require_backend(compile: bool | str | None) -> None:
    """Raise `ValueError` for what `torch.compile` knows no backend of."""
    if compile is None or isinstance(compile, bool):
        return
    import torch

    if compile not in torch.compiler.list_backends(exclude_tags=()):
        known = ", ".join(torch.compiler.list_backends())
        raise ValueError(f"compile is {compile!r}; it must be True, False, or a backend, such as {known}")


def _say_what_is_unchecked(pipeline: Any) -> None:
    if getattr(pipeline, "safety_checker", None) is not None:
        warnings.warn(
            "images that are decoded linearly go around the pipeline's safety checker; decoder='autoencoder' sends "
            "them through it, safety_checker=False loads none",
            stacklevel=2,
        )


def _to_images(pixels: torch.Tensor, size: tuple[int, int] | None) -> list[Image]:
    from PIL import Image

    images = [Image.fromarray(array) for array in pixels.cpu().numpy()]
    return images if size is None else [to_size(image, size) for image in images]
