"""Parameters of the checkpoints that `clts pairs` lists, counted: every architecture is built without memory for it.

    python benchmarks/catalogue.py --out benchmarks/results/catalogue

The configurations are those of the checkpoints, without what does not change a size. Writes `parameters.json`: of each
entry, how many numbers each part's files hold (a denoiser's table of positions is among them), and their sum; says what
the catalogue says beside it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

from avalanche_clts._support.files import write_text
from avalanche_clts.pair.catalogue import CAPTIONERS, GENERATORS

Build = Callable[[], torch.nn.Module]
_DOWN = ("DownEncoderBlock2D",) * 4
_UP = ("UpDecoderBlock2D",) * 4
_LARGE_VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}


def _model(kind: str, config: str, **options: Any) -> Build:
    return lambda: getattr(transformers, kind)(getattr(transformers, config)(**options))


def _blip(**text: Any) -> dict[str, Build]:
    # Its files hold the table of words twice, for what is read and what is written, which newer transformers tie.
    vision = _LARGE_VISION if text else {}
    config = {"text_config": {"tie_word_embeddings": False, **text}, "vision_config": vision}
    return {"whole": _model("BlipForConditionalGeneration", "BlipConfig", tie_word_embeddings=False, **config)}


def _smolvlm(hidden: int, layers: int, inner: int, heads: int, groups: int) -> Build:
    text = {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": 49280,
    }
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    return _model(
        "SmolVLMForConditionalGeneration",
        "SmolVLMConfig",
        text_config=text,
        vision_config={**vision, "image_size": 512, "patch_size": 16},
        scale_factor=4,
        tie_word_embeddings=False,
    )


def _clip(kind: str, **options: Any) -> Build:
    return _model(kind, "CLIPTextConfig", **options)


_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
_CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}

CLIP_L = _clip("CLIPTextModel", **_CLIP_L)
CLIP_L_PROJECTED = _clip("CLIPTextModelWithProjection", **_CLIP_L, projection_dim=768)
CLIP_G = _clip("CLIPTextModelWithProjection", **_CLIP_G, projection_dim=1280)
CLIP_H = _clip("CLIPTextModel", **_CLIP_H)
T5_XXL = _model(
    "T5EncoderModel",
    "T5Config",
    d_model=4096,
    d_ff=10240,
    d_kv=64,
    num_heads=64,
    num_layers=24,
    vocab_size=32128,
    feed_forward_proj="gated-gelu",
)
GEMMA = _model("Gemma2Model", "Gemma2Config")  # whose defaults are those of Gemma 2 2B


def _safety_checker() -> torch.nn.Module:
    vision = {**_LARGE_VISION, "image_size": 224, "patch_size": 14}
    return StableDiffusionSafetyChecker(transformers.CLIPConfig(vision_config=vision, projection_dim=768))


def _vae(channels: int = 4, quantised: bool = True) -> Build:
    return lambda: diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=_DOWN,
        up_block_types=_UP,
        layers_per_block=2,
        latent_channels=channels,
        use_quant_conv=quantised,
        use_post_quant_conv=quantised,
    )


def _unet(**options: Any) -> Build:
    return lambda: diffusers.UNet2DConditionModel(**options)


_UNET_1 = {"cross_attention_dim": 768, "attention_head_dim": 8}
_UNET_2 = {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
_UNET_XL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def _sd3(**options: Any) -> Build:
    shared = {"sample_size": 128, "pooled_projection_dim": 2048, "out_channels": 16, "qk_norm": "rms_norm"}
    return lambda: diffusers.SD3Transformer2DModel(**shared, **options)


def _pixart(sample_size: int) -> Build:
    return lambda: diffusers.PixArtTransformer2DModel(
        sample_size=sample_size, use_additional_conditions=False, caption_channels=4096
    )


def _deep_autoencoder() -> torch.nn.Module:
    plain, attentive = ["ResBlock"] * 3, ["EfficientViTBlock"] * 3
    return diffusers.AutoencoderDC(
        latent_channels=32,
        encoder_block_types=[*plain, *attentive],
        decoder_block_types=[*plain, *attentive],
        encoder_block_out_channels=(128, 256, 512, 512, 1024, 1024),
        decoder_block_out_channels=(128, 256, 512, 512, 1024, 1024),
        encoder_layers_per_block=(2, 2, 2, 3, 3, 3),
        decoder_layers_per_block=(3, 3, 3, 3, 3, 3),
        encoder_qkv_multiscales=((), (), (), (5,), (5,), (5,)),
        decoder_qkv_multiscales=((), (), (), (5,), (5,), (5,)),
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        downsample_block_type="conv",
        upsample_block_type="interpolate",
    )


_SD_1 = {"unet": _unet(**_UNET_1), "text encoder": CLIP_L, "autoencoder": _vae(), "safety checker": _safety_checker}
_SD_2 = {"unet": _unet(**_UNET_2), "text encoder": CLIP_H, "autoencoder": _vae()}
_SD_3 = {"CLIP L": CLIP_L_PROJECTED, "CLIP G": CLIP_G, "T5 XXL": T5_XXL, "autoencoder": _vae(16, False)}

PARTS: dict[str, dict[str, Build]] = {
    "blip": _blip(),
    "blip-large": _blip(encoder_hidden_size=1024),
    "git": {"whole": _model("GitForCausalLM", "GitConfig")},
    "blip2": {
        "whole": _model(
            "Blip2ForConditionalGeneration",
            "Blip2Config",
            text_config={
                "model_type": "opt",
                "hidden_size": 2560,
                "ffn_dim": 10240,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "word_embed_proj_dim": 2560,
                "vocab_size": 50304,
            },
        )
    },
    "florence2": {
        "whole": _model(
            "Florence2ForConditionalGeneration",
            "Florence2Config",
            text_config={
                "model_type": "bart",
                "d_model": 768,
                "encoder_layers": 6,
                "decoder_layers": 6,
                "encoder_ffn_dim": 3072,
                "decoder_ffn_dim": 3072,
                "encoder_attention_heads": 12,
                "decoder_attention_heads": 12,
                "vocab_size": 51289,
                "max_position_embeddings": 1024,
            },
            vision_config={
                "embed_dim": (128, 256, 512, 1024),
                "num_heads": (4, 8, 16, 32),
                "num_groups": (4, 8, 16, 32),
                "depths": (1, 1, 9, 1),
                "projection_dim": 768,
            },
        )
    },
    "smolvlm-256m": {"whole": _smolvlm(576, 30, 1536, 9, 3)},
    "smolvlm-500m": {"whole": _smolvlm(960, 32, 2560, 15, 5)},
    "qwen3-vl": {
        "whole": _model(
            "Qwen3VLForConditionalGeneration",
            "Qwen3VLConfig",
            text_config={
                "hidden_size": 2048,
                "intermediate_size": 6144,
                "num_hidden_layers": 28,
                "num_attention_heads": 16,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "vocab_size": 151936,
            },
            vision_config={
                "depth": 24,
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_heads": 16,
                "out_hidden_size": 2048,
                "patch_size": 16,
                "num_position_embeddings": 2304,
                "deepstack_visual_indexes": [5, 11, 17],
            },
            tie_word_embeddings=True,
        )
    },
    "qwen25-vl": {
        "whole": _model(
            "Qwen2_5_VLForConditionalGeneration",
            "Qwen2_5_VLConfig",
            text_config={
                "hidden_size": 2048,
                "intermediate_size": 11008,
                "num_hidden_layers": 36,
                "num_attention_heads": 16,
                "num_key_value_heads": 2,
                "vocab_size": 151936,
            },
            vision_config={
                "depth": 32,
                "hidden_size": 1280,
                "intermediate_size": 3420,
                "num_heads": 16,
                "out_hidden_size": 2048,
                "patch_size": 14,
            },
            tie_word_embeddings=True,
        )
    },
    "sd15": _SD_1,
    "lcm-dreamshaper": {**_SD_1, "unet": _unet(**_UNET_1, time_cond_proj_dim=256)},
    "sd21": _SD_2,
    "sd-turbo": _SD_2,
    "sdxl-turbo": {"unet": _unet(**_UNET_XL), "CLIP L": CLIP_L, "CLIP G": CLIP_G, "autoencoder": _vae()},
    "sd35-medium": {
        "transformer": _sd3(
            num_layers=24,
            num_attention_heads=24,
            caption_projection_dim=1536,
            pos_embed_max_size=384,
            dual_attention_layers=tuple(range(13)),
        ),
        **_SD_3,
    },
    "sd35-large-turbo": {
        "transformer": _sd3(num_layers=38, num_attention_heads=38, caption_projection_dim=2432, pos_embed_max_size=192),
        **_SD_3,
    },
    "flux-schnell": {
        "transformer": lambda: diffusers.FluxTransformer2DModel(guidance_embeds=False),
        "CLIP L": CLIP_L,
        "T5 XXL": T5_XXL,
        "autoencoder": _vae(16, False),
    },
    "pixart-alpha": {"transformer": _pixart(64), "T5 XXL": T5_XXL, "autoencoder": _vae()},
    "pixart-sigma": {"transformer": _pixart(128), "T5 XXL": T5_XXL, "autoencoder": _vae()},
    "sana-sprint": {
        "transformer": lambda: diffusers.SanaTransformer2DModel(
            num_layers=28,
            num_attention_heads=36,
            num_cross_attention_heads=16,
            cross_attention_head_dim=72,
            cross_attention_dim=1152,
            guidance_embeds=True,
            qk_norm="rms_norm_across_heads",
        ),
        "Gemma 2 2B": GEMMA,
        "autoencoder": _deep_autoencoder,
    },
}


def numbers(build: Build) -> int:
    """That a model's files hold: its parameters, each once, and the buffers that are saved with them."""
    with torch.device("meta"):
        model = build()
    parameters = {id(parameter): parameter for parameter in model.parameters()}
    names = set(model.state_dict())
    buffers = [buffer for name, buffer in model.named_buffers() if name in names]
    return sum(tensor.numel() for tensor in [*parameters.values(), *buffers])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for name, parts in PARTS.items():
        counted = {part: numbers(build) for part, build in parts.items()}
        total, said = sum(counted.values()), (CAPTIONERS | GENERATORS)[name].millions
        found[name] = {"parts": counted, "total": total}
        print(f"{name:18}{total:16,}{said:8}", {part: f"{count:,}" for part, count in counted.items()})
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out / "parameters.json", json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
