"""BLIP and Stable Diffusion at their real sizes, with random weights: speed does not depend on their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizerFast,
)

from avalanche_clts.pretraining.tokenizers import pair_tokenizer, word_tokenizer

# Rombach et al. (CVPR 2022), and what differs in Stable Diffusion 2 and in the models distilled from it.
_SD15: dict[str, Any] = {
    "unet": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "text": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
}
_SD2: dict[str, Any] = {
    "unet": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
    "text": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
    },
}
_TINY_TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
GENERATORS: dict[str, dict[str, Any]] = {
    "sd15": {**_SD15, "widths": (320, 640, 1280, 1280), "vae": (128, 256, 512, 512), "latents": 64, "groups": 32},
    "sd-turbo": {**_SD2, "widths": (320, 640, 1280, 1280), "vae": (128, 256, 512, 512), "latents": 64, "groups": 32},
    # The same code where there is no GPU.
    "small": {
        "unet": {"cross_attention_dim": 64, "attention_head_dim": 2},
        "text": _TINY_TEXT,
        "widths": (32, 64, 64, 64),
        "vae": (16, 16, 32, 32),
        "latents": 8,
        "groups": 16,
    },
}
CAPTIONERS: dict[str, dict[str, Any]] = {
    "blip": {"vision": {"image_size": 384, "patch_size": 16}, "text": {}},
    "small": {
        "vision": {**_TINY_TEXT, "image_size": 32, "patch_size": 8},
        "text": {**_TINY_TEXT, "encoder_hidden_size": 64},
    },
}


def saved_captioner(size: str, weights: Path, *, device: str) -> Path:
    """A folder in `weights` with a BLIP of a size from `CAPTIONERS`; drawn on `device` if it is not there."""
    folder = weights / f"captioner-{size}"
    if not folder.exists():
        chosen = CAPTIONERS[size]
        tokenizer = word_tokenizer([f"word{i}" for i in range(200)], bos_token="[DEC]")
        special = {"bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
        config = BlipConfig(vision_config=chosen["vision"], text_config={**chosen["text"], **special})
        torch.manual_seed(0)
        with torch.device(device):
            model = BlipForConditionalGeneration(config)
        model.cpu().half().save_pretrained(folder)
        side = chosen["vision"]["image_size"]
        BlipProcessor(BlipImageProcessor(size={"height": side, "width": side}), tokenizer).save_pretrained(folder)
    return folder


def saved_generator(size: str, weights: Path, *, device: str) -> Path:
    """A folder in `weights` with a Stable Diffusion of a size from `GENERATORS`, drawn like a captioner."""
    folder = weights / f"generator-{size}"
    if not folder.exists():
        chosen = GENERATORS[size]
        tokenizer = pair_tokenizer(CLIPTokenizerFast, ["a photo of a thing"], vocab_size=600, model_max_length=77)
        depth = len(chosen["vae"])
        torch.manual_seed(0)
        with torch.device(device):
            text_encoder = CLIPTextModel(
                CLIPTextConfig(
                    **chosen["text"],
                    vocab_size=49408,
                    bos_token_id=tokenizer.bos_token_id,
                    eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                )
            )
            unet = UNet2DConditionModel(
                sample_size=chosen["latents"],
                block_out_channels=chosen["widths"],
                norm_num_groups=chosen["groups"],
                **chosen["unet"],
            )
            vae = AutoencoderKL(
                block_out_channels=chosen["vae"],
                down_block_types=("DownEncoderBlock2D",) * depth,
                up_block_types=("UpDecoderBlock2D",) * depth,
                layers_per_block=2,
                norm_num_groups=chosen["groups"],
                sample_size=8 * chosen["latents"],
            )
        StableDiffusionPipeline(
            vae=vae.cpu().half(),
            text_encoder=text_encoder.cpu().half(),
            tokenizer=tokenizer,
            unet=unet.cpu().half(),
            scheduler=DPMSolverMultistepScheduler(steps_offset=1, timestep_spacing="trailing"),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder)
    return folder
