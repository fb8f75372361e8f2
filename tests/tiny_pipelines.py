"""A tiny one, with random weights, of every transformer pipeline that is known, as the hub has its files."""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tokenizers import Tokenizer
from tokenizers.decoders import ByteFallback, Fuse, Sequence
from tokenizers.decoders import Metaspace as MetaspaceDecoder
from tokenizers.decoders import Replace as ReplaceDecoder
from tokenizers.models import BPE, Unigram
from tokenizers.normalizers import Replace
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from tests.conftest import WORDS, tiny_vae
from tests.test_families import clip_tokenizer, text_config, tiny_unet


def t5() -> tuple[T5TokenizerFast, T5EncoderModel]:
    pieces = ["▁", *(f"▁{word}" for word in WORDS), *string.ascii_lowercase]
    vocabulary = [(piece, 0.0) for piece in ("<pad>", "</s>", "<unk>")] + [
        (piece, -float(len(piece))) for piece in pieces
    ]
    made = Tokenizer(Unigram(vocabulary, unk_id=2))
    made.pre_tokenizer, made.decoder = Metaspace(), MetaspaceDecoder()
    made.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = of_file(T5TokenizerFast, made, extra_ids=0, model_max_length=512)
    config = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return tokenizer, T5EncoderModel(config)


def gemma() -> tuple[GemmaTokenizerFast, Gemma2Model]:
    made = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True))
    made.normalizer, made.decoder = Replace(" ", "▁"), Sequence([ReplaceDecoder("▁", " "), ByteFallback(), Fuse()])
    trainer = BpeTrainer(vocab_size=400, special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"], show_progress=False)
    made.train_from_iterator([" ".join(WORDS), string.printable], trainer)
    tokenizer = of_file(GemmaTokenizerFast, made)
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    return tokenizer, Gemma2Model(config)


def of_file(kind: type, made: Tokenizer, **options: Any) -> Any:
    """Version 4 of transformers makes none from a vocabulary without SentencePiece; every version reads this file."""
    with TemporaryDirectory() as folder:
        made.save(f"{folder}/tokenizer.json")
        return kind.from_pretrained(folder, **options)


def clip_with_projection(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(text_config(tokenizer, projection_dim=16))


def vae_of_16_channels() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.5305,
        shift_factor=0.0609,
    )


def save_stable_diffusion_3(folder: Path) -> None:
    tokenizer = clip_tokenizer()
    tokenizer_3, text_encoder_3 = t5()
    StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=32,
            caption_projection_dim=16,
            pooled_projection_dim=32,
            pos_embed_max_size=8,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae_of_16_channels(),
        text_encoder=clip_with_projection(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=clip_with_projection(tokenizer),
        tokenizer_2=tokenizer,
        text_encoder_3=T5EncoderModel(T5Config(**text_encoder_3.config.to_dict() | {"d_model": 32})),
        tokenizer_3=tokenizer_3,
    ).save_pretrained(folder, max_shard_size="20KB")  # several files of weights and their index


def save_flux(folder: Path, guidance_embeds: bool = False) -> None:
    tokenizer = clip_tokenizer()
    tokenizer_2, text_encoder_2 = t5()
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=guidance_embeds),
        vae=vae_of_16_channels(),
        text_encoder=CLIPTextModel(text_config(tokenizer)),
        tokenizer=tokenizer,
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        transformer=FluxTransformer2DModel(
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 2, 2),
            guidance_embeds=guidance_embeds,
        ),
    ).save_pretrained(folder)


def save_pixart(folder: Path, kind: type = PixArtAlphaPipeline) -> None:
    tokenizer, text_encoder = t5()
    sigma = kind is PixArtSigmaPipeline
    kind(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=tiny_vae(),
        transformer=PixArtTransformer2DModel(
            sample_size=4 if sigma else 128,  # at which it is told the size and shape of the image, too
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=12,
            cross_attention_dim=24,
            caption_channels=16,
        ),
        scheduler=(EulerDiscreteScheduler if sigma else DPMSolverMultistepScheduler)(),
    ).save_pretrained(folder)


def save_sana(folder: Path, sprint: bool = False) -> None:
    tokenizer, text_encoder = gemma()
    flow = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    (SanaSprintPipeline if sprint else SanaPipeline)(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ),
        transformer=SanaTransformer2DModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=16,
            guidance_embeds=sprint,
            qk_norm="rms_norm_across_heads" if sprint else None,
            timestep_scale=1000.0 if sprint else 1.0,
        ),
        scheduler=SCMScheduler() if sprint else flow,
    ).save_pretrained(folder)


def save_lcm(folder: Path) -> None:
    tokenizer = clip_tokenizer()
    LatentConsistencyModelPipeline(
        vae=tiny_vae(),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text_config(tokenizer).to_dict())),
        tokenizer=tokenizer,
        unet=tiny_unet(cross_attention_dim=16, time_cond_proj_dim=8),
        scheduler=LCMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


# By the class that model_index.json names.
TINY: dict[str, Callable[[Path], None]] = {
    "LatentConsistencyModelPipeline": save_lcm,
    "StableDiffusion3Pipeline": save_stable_diffusion_3,
    "FluxPipeline": save_flux,
    "PixArtAlphaPipeline": save_pixart,
    "PixArtSigmaPipeline": partial(save_pixart, kind=PixArtSigmaPipeline),
    "SanaPipeline": save_sana,
    "SanaSprintPipeline": partial(save_sana, sprint=True),
}


def save_tiny(kind: str, folder: Path) -> Path:
    torch.manual_seed(0)
    TINY[kind](folder)
    return folder
