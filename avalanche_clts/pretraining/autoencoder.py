"""The autoencoder of the pair's generator: images to latents that are nearly normal, and back."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from ..pair.precision import fast_multiplication
from .features import FeatureNetwork, feature_distance
from .pool import pixels
from .recipe import Recipe
from .training import draw, fit, normal


def train_autoencoder(images: Tensor, features: FeatureNetwork | None, work: Path, recipe: Recipe) -> AutoencoderKL:
    """Train on images, uint8 `(n, 3, side, side)`.

    **Arguments:**

    - features: the network whose features a decoded image is to keep. None: squared error alone.
    - work: folder of the checkpoint that a killed run goes on from.
    """
    autoencoder = AutoencoderKL(
        block_out_channels=recipe.autoencoder_widths,
        down_block_types=("DownEncoderBlock2D",) * len(recipe.autoencoder_widths),
        up_block_types=("UpDecoderBlock2D",) * len(recipe.autoencoder_widths),
        latent_channels=recipe.latent_channels,
        norm_num_groups=16,
        sample_size=recipe.side,
    ).to(recipe.device)

    def batch_loss(generator: torch.Generator) -> Tensor:
        batch = pixels(images[draw(len(images), recipe.batch_size // 4, generator)])
        with fast_multiplication(recipe.device):
            posterior = autoencoder.encode(batch).latent_dist
            noise = normal(posterior.mean.shape, generator)
            decoded = autoencoder.decode(posterior.mean + posterior.std * noise).sample
        error = F.mse_loss(decoded.float(), batch, reduction="none").sum((1, 2, 3)).mean()
        # A real KL weight: with next to none, latents are far from normal and the denoiser draws blobs.
        loss = (error / (2 * recipe.noise_variance) + posterior.kl().mean()) / batch[0].numel()
        if features is not None:
            with fast_multiplication(recipe.device):
                distance = feature_distance(features.features(decoded.float()), features.features(batch))
            loss = loss + recipe.feature_weight * distance.mean()
        assert isinstance(loss, Tensor)
        return loss

    fit(
        autoencoder,
        batch_loss,
        name="autoencoder",
        folder=work,
        steps=recipe.autoencoder_steps,
        learning_rate=1.5e-3,
        ema_decay=0.99,
    )
    return autoencoder


@torch.inference_mode()
def encode(autoencoder: AutoencoderKL, images: Tensor) -> Tensor:
    """Mean and standard deviation of every image's latents, `(n, 2 x latent channels, h, w)`, in units of the overall
    deviation."""
    posteriors = [autoencoder.encode(pixels(batch)).latent_dist for batch in images.split(500)]
    means = torch.cat([p.mean for p in posteriors])
    deviations = torch.cat([p.std for p in posteriors])
    overall = (means.var() + deviations.square().mean()).sqrt()
    autoencoder.register_to_config(scaling_factor=1 / overall.item())
    return torch.cat([means, deviations], dim=1) / overall
