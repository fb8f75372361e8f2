"""Captioning and generation: the plain loop, then with each saving switched on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timing
import torch
from architectures import saved_captioner, saved_generator
from diffusers import AutoPipelineForText2Image, UNet2DConditionModel
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import BlipForConditionalGeneration, BlipProcessor

from avalanche_clts import BlipCaptioner, DiffusionGenerator, Pair
from avalanche_clts.pair import generators
from avalanche_clts.pair.isolated import isolated_loading
from avalanche_clts.pair.precision import half_precision

PROMPTS = [f"a photo of thing {i % 25}" for i in range(32)]
BATCH = 16  # images; with guidance, the denoiser has twice as many
PLAIN_SHARE = 0.125  # of the work that the plain loop does; it takes the same time for every image
_SAMPLING = {
    "sd15": {"steps": 25, "guidance_scale": 2.0},
    "sd-turbo": {"steps": 1, "guidance_scale": 0.0},
    "small": {"steps": 6, "guidance_scale": 2.0},
}


def embedded_captioning(pair: Pair, *, rounds: int) -> dict[str, Any]:
    """The embedded captioner on the CPU, of images that its generator made."""
    assert isinstance(pair.captioner, BlipCaptioner)
    prompts = _embedded_prompts()
    return _captioning(pair.captioner, pair.generator.generate(prompts, range(len(prompts))), rounds=rounds)


def embedded_generation(pair: Pair, *, rounds: int) -> dict[str, Any]:
    """The embedded generator on the CPU."""
    assert isinstance(pair.generator, DiffusionGenerator)
    return _generation(pair.generator, _embedded_prompts(), rounds=rounds)


def _embedded_prompts() -> list[str]:
    return [f"a {colour} star on white" for colour in ("red", "blue", "green", "black")] * 62


def captioning(size: str, weights: Path, *, device: str, rounds: int) -> dict[str, Any]:
    """A captioner with random weights, always as many tokens."""
    folder = saved_captioner(size, weights, device=device)
    captioner = BlipCaptioner(folder, max_new_tokens=20, device=device)
    random = np.random.RandomState(0)
    images = [Image.fromarray(random.randint(0, 256, (32, 32, 3)).astype(np.uint8)) for _ in range(64)]
    return _captioning(captioner, images, rounds=rounds)


def generation(size: str, weights: Path, *, device: str, rounds: int) -> dict[str, Any]:
    """A generator with random weights by its recipe."""
    folder = saved_generator(size, weights, device=device)
    generator = DiffusionGenerator(folder, **_SAMPLING[size], batch_size=BATCH, device=device)
    return _generation(generator, PROMPTS, rounds=rounds)


def small_images(weights: Path, *, device: str, rounds: int) -> dict[str, Any]:
    """32x32 images by SD-Turbo, and by SD 1.5 as the library has it: 50 steps, one image a call."""
    prompts = 8 * PROMPTS
    share = 2 / len(prompts)
    sd15, sd_turbo = (saved_generator(size, weights, device=device) for size in ("sd15", "sd-turbo"))
    pipeline = _plain_pipeline(sd15, device)

    def plain() -> None:
        for prompt in prompts[: int(share * len(prompts))]:
            _small(pipeline(prompt, num_inference_steps=50, guidance_scale=7.5).images)

    def turbo(**options: Any) -> Callable[[], None]:
        generator = DiffusionGenerator(sd_turbo, **_SAMPLING["sd-turbo"], batch_size=64, device=device, **options)
        return lambda: _small(generator.generate(prompts, range(len(prompts))))

    variants = {
        "SD-Turbo in batches": turbo(),
        "and decoded linearly, to the latents' size": turbo(decoder="linear"),
    }
    found = timing.compare(plain, variants, device=device, rounds=rounds, share=share)
    return found | {"items": len(prompts)}


def few_steps(size: str, weights: Path, *, device: str, rounds: int) -> dict[str, Any]:
    """Four steps without guidance, as the latent-consistency LoRA allows (Luo et al., 2023), against 25 with it. The
    LoRA is fused into the weights: it costs nothing."""
    folder = saved_generator(size, weights, device=device)

    def sampling(**options: Any) -> Callable[[], None]:
        generator = DiffusionGenerator(folder, batch_size=BATCH, device=device, **options)
        return lambda: generator.generate(PROMPTS, range(len(PROMPTS)))

    plain = sampling(steps=25, guidance_scale=2.0)
    lcm = {"4 steps of LCM without guidance": sampling(scheduler="LCMScheduler", steps=4, guidance_scale=1.0)}
    found = timing.compare(plain, lcm, device=device, rounds=rounds)
    return found | {"items": len(PROMPTS)}


def _small(images: list[Image.Image]) -> None:
    for image in images:
        image.resize((32, 32), Image.Resampling.LANCZOS)


def denoiser(size: str, weights: Path, *, device: str, compile: bool) -> dict[str, float]:
    """How much of the device's matrix-product rate the denoiser reaches."""
    batch = 2 * BATCH
    unet = DiffusionGenerator(saved_generator(size, weights, device=device), device=device)._load().unet
    dtype = unet.dtype
    side, width = unet.config.sample_size, unet.config.cross_attention_dim
    latents = torch.randn(batch, 4, side, side, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    text = torch.randn(batch, 77, width, device=device, dtype=dtype)
    with torch.inference_mode():
        call = partial(unet, latents, torch.tensor(500, device=device), text)
        with FlopCounterMode(display=False) as counter:  # before compiling: it would see none of the compiled kernels
            call()
        if compile:
            unet.compile()
        times = [timing.seconds(call, device) for _ in range(12)][2:]
    rate = counter.get_total_flops() / float(np.median(times))
    peak = timing.matmul_rate(device, dtype)
    return {"TFLOP/s": rate / 1e12, "TFLOP/s of a matrix product": peak / 1e12, "share": rate / peak}


def _captioning(captioner: BlipCaptioner, images: list[Image.Image], *, rounds: int) -> dict[str, Any]:
    source = captioner.name_or_path
    processor = BlipProcessor.from_pretrained(source)
    with isolated_loading():
        model = BlipForConditionalGeneration.from_pretrained(source, dtype=half_precision(captioner.device))
    model.to(captioner.device).eval()

    def plain() -> None:
        for image in images[: int(PLAIN_SHARE * len(images))]:
            inputs = processor(images=image, return_tensors="pt").to(captioner.device, model.dtype)
            with torch.no_grad():
                tokens = model.generate(**inputs, max_new_tokens=captioner.max_new_tokens, num_beams=1)
            processor.decode(tokens[0], skip_special_tokens=True)

    found = timing.compare(
        plain,
        {"in batches": lambda: captioner.caption(images)},
        device=str(captioner.device),
        rounds=rounds,
        share=PLAIN_SHARE,
    )
    return found | {"items": len(images)}


def _generation(generator: DiffusionGenerator, prompts: list[str], *, rounds: int) -> dict[str, Any]:
    """The plain loop is one call of the library for each prompt, with the same steps, guidance and size."""
    pipeline = _plain_pipeline(Path(generator.name_or_path), str(generator.device))
    few = prompts[: int(PLAIN_SHARE * len(prompts))]
    seeds = range(len(prompts))

    def plain() -> None:
        for prompt, seed in zip(few, seeds, strict=False):
            noise = torch.Generator("cpu").manual_seed(seed)
            pipeline(
                prompt,
                num_inference_steps=generator.steps,
                guidance_scale=generator.guidance_scale,
                generator=noise,
            )

    variants: dict[str, Callable[[], Any]] = {}
    if torch.device(generator.device).type == "cpu":
        variants["in batches, full precision"] = partial(_in_full_precision, generator, prompts, seeds)
        variants["in batches, bfloat16 (as it comes)"] = partial(generator.generate, prompts, seeds)
    else:
        variants["in batches (as it comes)"] = partial(generator.generate, prompts, seeds)
        variants["and compiled"] = partial(_like(generator, compile=True).generate, prompts, seeds)
    variants["and decoded linearly, to the latents' size"] = partial(
        _like(generator, decoder="linear").generate, prompts, seeds
    )
    found = timing.compare(plain, variants, device=str(generator.device), rounds=rounds, share=PLAIN_SHARE)
    found["items"] = len(prompts)
    if torch.device(generator.device).type != "cpu":
        found["TFLOP/s of a matrix product"] = timing.matmul_rate(str(generator.device), pipeline.unet.dtype) / 1e12
        found["TFLOP of the denoiser"] = denoiser_tflop(generator) * len(prompts)
    return found


def denoiser_tflop(generator: DiffusionGenerator) -> float:
    """Operations of the denoiser for an image, in units of 1e12; counted, not run."""
    config = UNet2DConditionModel.load_config(generator.name_or_path, subfolder="unet")
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        unet = UNet2DConditionModel.from_config(config)
        latents = torch.randn(1, config["in_channels"], config["sample_size"], config["sample_size"])
        unet(latents, torch.tensor(500), torch.randn(1, 77, config["cross_attention_dim"]))
    assert generator.steps is not None
    assert generator.guidance_scale is not None
    passes = 2 if generator.guidance_scale > 1 else 1
    return generator.steps * passes * counter.get_total_flops() / 1e12


def _plain_pipeline(folder: Path, device: str) -> Any:
    with isolated_loading():
        pipeline = AutoPipelineForText2Image.from_pretrained(folder, dtype=half_precision(device))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _like(generator: DiffusionGenerator, **changed: Any) -> DiffusionGenerator:
    names = ("name_or_path", "steps", "guidance_scale", "batch_size", "device")
    return DiffusionGenerator(**{name: getattr(generator, name) for name in names} | changed)


def _in_full_precision(generator: DiffusionGenerator, prompts: list[str], seeds: range) -> None:
    used = generators.fast_multiplication
    generators.fast_multiplication = lambda device: nullcontext()
    try:
        generator.generate(prompts, seeds)
    finally:
        generators.fast_multiplication = used
