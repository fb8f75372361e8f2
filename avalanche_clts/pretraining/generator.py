"""A small Stable Diffusion, trained from nothing on the images and captions of a pool.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (CVPR 2022), with the velocity objective
of Salimans and Ho (ICLR 2022) and classifier-free guidance (Ho and Salimans, 2022).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .captioner import rgb
from .pool import Pool
from .training import draw, fit

_LATENT_CHANNELS = 4
_TEXT_WIDTH = 128
_TEXT_LENGTH = 12  # tokens, both ends included
_UNCONDITIONAL = 0.1  # share of captions dropped, for classifier-free guidance
_NOISE_VARIANCE = 0.015  # of the decoder's Gaussian: weighs squared error against KL divergence
_SCHEDULE = {
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
}


def train_generator(
    pool: Pool,
    out: Path,
    *,
    work: Path,
    side: int = 32,
    autoencoder_steps: int = 1300,
    diffusion_steps: int = 3500,
    batch_size: int = 128,
) -> None:
    """Train on `pool` and save a `StableDiffusionPipeline` to `out`, in fp16.

    **Arguments:**

    - side: of the square images, in pixels; latents are an eighth of it.
    - work: folder of the checkpoints that a killed run goes on from.
    """
    images = _to_tensor(pool.images, side)
    autoencoder = _train_autoencoder(images, work, autoencoder_steps)
    tokenizer = CLIPTokenizer(model_max_length=_TEXT_LENGTH).train_new_from_iterator(pool.captions, vocab_size=2000)
    denoiser = _Denoiser(tokenizer, side // 8)
    _train_denoiser(
        denoiser, _encode(autoencoder, images), _tokens(tokenizer, pool.captions), work, diffusion_steps, batch_size
    )
    StableDiffusionPipeline(
        vae=autoencoder.half(),
        text_encoder=denoiser.text_encoder.half(),
        tokenizer=tokenizer,
        unet=denoiser.unet.half(),
        scheduler=DPMSolverMultistepScheduler(**_SCHEDULE, timestep_spacing="trailing"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(out)


class _Denoiser(nn.Module):
    """Text encoder and UNet, trained as one: the text encoder starts from nothing, so it cannot stay frozen."""

    def __init__(self, tokenizer: CLIPTokenizer, latent_side: int) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=_TEXT_WIDTH,
                intermediate_size=4 * _TEXT_WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=_TEXT_LENGTH,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=latent_side,
            in_channels=_LATENT_CHANNELS,
            out_channels=_LATENT_CHANNELS,
            block_out_channels=(96, 192),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            attention_head_dim=4,
            cross_attention_dim=_TEXT_WIDTH,
        )

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(latents, timesteps, self.text_encoder(tokens).last_hidden_state).sample


def _train_autoencoder(images: Tensor, work: Path, steps: int) -> AutoencoderKL:
    autoencoder = AutoencoderKL(
        block_out_channels=(16, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=_LATENT_CHANNELS,
        norm_num_groups=16,
        sample_size=images.shape[-1],
    )

    def batch_loss(generator: torch.Generator) -> Tensor:
        batch = images[draw(len(images), 64, generator)]
        posterior = autoencoder.encode(batch).latent_dist
        latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
        error = F.mse_loss(autoencoder.decode(latents).sample, batch, reduction="none").sum((1, 2, 3)).mean()
        # A real KL weight: with next to none, latents are far from normal and the denoiser draws blobs.
        loss = (error / (2 * _NOISE_VARIANCE) + posterior.kl().mean()) / batch[0].numel()
        assert isinstance(loss, Tensor)
        return loss

    fit(autoencoder, batch_loss, name="autoencoder", folder=work, steps=steps, learning_rate=1e-3)
    return autoencoder


@torch.inference_mode()
def _encode(autoencoder: AutoencoderKL, images: Tensor) -> Tensor:
    """Mean and standard deviation of every image's latents, `(n, 8, h, w)`, in units of the overall deviation."""
    posteriors = [autoencoder.encode(batch).latent_dist for batch in images.split(500)]
    means = torch.cat([p.mean for p in posteriors])
    deviations = torch.cat([p.std for p in posteriors])
    overall = (means.var() + deviations.square().mean()).sqrt()
    autoencoder.register_to_config(scaling_factor=1 / overall.item())
    return torch.cat([means, deviations], dim=1) / overall


def _train_denoiser(
    denoiser: _Denoiser, latents: Tensor, tokens: Tensor, work: Path, steps: int, batch_size: int
) -> None:
    noise_schedule = DDPMScheduler(**_SCHEDULE)
    unconditional, tokens = tokens[-1], tokens[:-1]

    def batch_loss(generator: torch.Generator) -> Tensor:
        i = draw(len(latents), batch_size, generator)
        mean, deviation = latents[i].chunk(2, dim=1)
        clean = mean + deviation * torch.randn(mean.shape, generator=generator)
        noise = torch.randn(mean.shape, generator=generator)
        timesteps = torch.randint(1000, (batch_size,), generator=generator)
        dropped = torch.rand(batch_size, 1, generator=generator) < _UNCONDITIONAL
        prompts = torch.where(dropped, unconditional, tokens[i])
        predicted = denoiser(noise_schedule.add_noise(clean, noise, timesteps), timesteps, prompts)
        return F.mse_loss(predicted, noise_schedule.get_velocity(clean, noise, timesteps))

    fit(denoiser, batch_loss, name="diffusion", folder=work, steps=steps, learning_rate=8e-4, ema_decay=0.997)


def _tokens(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids of the captions and, in the last row, of the empty text, `(n + 1, length)`."""
    return tokenizer([*captions, ""], padding="max_length", truncation=True, return_tensors="pt").input_ids


def _to_tensor(images: list[Image.Image], side: int) -> Tensor:
    """RGB `(n, 3, side, side)` in [-1, 1]."""
    resized = [image.resize((side, side), Image.Resampling.LANCZOS) for image in rgb(images)]
    return torch.from_numpy(np.stack([np.asarray(image) for image in resized])).permute(0, 3, 1, 2) / 127.5 - 1
