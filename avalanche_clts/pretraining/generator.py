"""A small Stable Diffusion, trained from nothing on the images and captions of a pool.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (CVPR 2022), with the velocity objective
of Salimans and Ho (ICLR 2022), the timesteps of Esser et al. (ICML 2024) and classifier-free guidance (Ho and Salimans,
2022). At the end it is distilled, as SD-Turbo is.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast

from ..pair.precision import fast_multiplication, plain_attention
from .autoencoder import encode, train_autoencoder
from .distillation import Sampler, distill
from .features import train_features
from .layout import lay_out_for_all
from .pool import Pool, to_tensor
from .recipe import Recipe
from .tokenizers import pair_tokenizer
from .training import draw, fit, normal

_TEXT_WIDTH = 128
_TEXT_LENGTH = 77  # tokens at most, both ends included, as in CLIP
_UNCONDITIONAL = 0.1  # share of captions dropped, for classifier-free guidance
_SCHEDULE = {
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
}


def train_generator(pool: Pool, out: Path, *, work: Path, recipe: Recipe) -> None:
    """Train on `pool` and save a `StableDiffusionPipeline` to `out`, in fp16.

    **Arguments:**

    - work: folder of the checkpoints that a killed run goes on from.
    """
    images = to_tensor(pool.images, recipe.side).to(recipe.device)
    reads = recipe.feature_weight and recipe.feature_steps
    features = train_features(images, pool.captions, work, recipe) if reads else None
    autoencoder = train_autoencoder(images, features, work, recipe)
    tokenizer = _tokenizer(pool.captions)
    denoiser = _Denoiser(tokenizer, recipe).to(recipe.device)
    latents = encode(autoencoder, images)
    tokens = _tokens(tokenizer, pool.captions).to(recipe.device)
    _train_denoiser(denoiser, latents, tokens, work, recipe)
    scheduler = DPMSolverMultistepScheduler(**_SCHEDULE, timestep_spacing="trailing")
    if recipe.distillation_steps:
        distill(Sampler(denoiser.unet, denoiser.text_encoder, tokens, scheduler), work=work, recipe=recipe)
    StableDiffusionPipeline(
        vae=autoencoder.cpu().half(),
        text_encoder=denoiser.text_encoder.cpu().half(),
        tokenizer=tokenizer,
        unet=denoiser.unet.cpu().half(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(out)
    lay_out_for_all(out)


class _Denoiser(nn.Module):
    """Text encoder and UNet, trained as one: the text encoder starts from nothing, so it cannot stay frozen."""

    def __init__(self, tokenizer: CLIPTokenizerFast, recipe: Recipe) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=_TEXT_WIDTH,
                intermediate_size=4 * _TEXT_WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=tokenizer.model_max_length,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        rest = ("DownBlock2D",) * (len(recipe.unet_widths) - 2)
        self.unet = UNet2DConditionModel(
            sample_size=recipe.latent_side,
            in_channels=recipe.latent_channels,
            out_channels=recipe.latent_channels,
            block_out_channels=recipe.unet_widths,
            layers_per_block=1,
            # Attention at the second size alone, where it is cheap.
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", *rest),
            up_block_types=(*("UpBlock2D" for _ in rest), "CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4,
            cross_attention_dim=_TEXT_WIDTH,
        )

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(latents, timesteps, self.text_encoder(tokens).last_hidden_state).sample


def _train_denoiser(denoiser: _Denoiser, latents: Tensor, tokens: Tensor, work: Path, recipe: Recipe) -> None:
    noise_schedule = DDPMScheduler(**_SCHEDULE)
    unconditional, tokens = tokens[-1], tokens[:-1]

    def batch_loss(generator: torch.Generator) -> Tensor:
        i = draw(len(latents), recipe.batch_size, generator)
        mean, deviation = latents[i].chunk(2, dim=1)
        clean = mean + deviation * normal(mean.shape, generator)
        noise = normal(mean.shape, generator)
        # Logit-normal: the middle of the way from noise to image is learnt last, so it comes up most often.
        timesteps = (1000 * normal(i.shape, generator).sigmoid()).long().clamp(max=999)
        dropped = torch.rand(len(i), 1, generator=generator, device=generator.device) < _UNCONDITIONAL
        prompts = torch.where(dropped, unconditional, tokens[i])
        noisy = noise_schedule.add_noise(clean, noise, timesteps)
        velocity = noise_schedule.get_velocity(clean, noise, timesteps)
        with fast_multiplication(recipe.device), plain_attention(recipe.device):
            predicted = denoiser(noisy, timesteps, prompts)
        return F.mse_loss(predicted.float(), velocity)

    fit(
        denoiser,
        batch_loss,
        name="diffusion",
        folder=work,
        steps=recipe.diffusion_steps,
        learning_rate=8e-4,
        ema_decay=0.998,
    )


def _tokenizer(captions: list[str]) -> CLIPTokenizerFast:
    """CLIP's tokenizer, its merges learnt from the captions and its length that of the longest."""
    tokenizer = pair_tokenizer(CLIPTokenizerFast, captions, vocab_size=2000)
    longest = max(len(ids) for ids in tokenizer(sorted(set(captions))).input_ids)
    tokenizer.model_max_length = min(_TEXT_LENGTH, longest)
    return tokenizer


def _tokens(tokenizer: CLIPTokenizerFast, captions: list[str]) -> Tensor:
    """Token ids of the captions and, in the last row, of the empty text, `(n + 1, length)`."""
    return tokenizer([*captions, ""], padding="max_length", truncation=True, return_tensors="pt").input_ids
