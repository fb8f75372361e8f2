"""How large a pair is, and how long it is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """The defaults are those of the embedded pair.

    **Arguments:**

    - side: of the square images that the pair sees and makes, in pixels; latents are an eighth of it.
    - latent_channels: of the autoencoder.
    - unet_widths: channels of the denoiser at the latents' size and at half of it.
    - captioner_steps, autoencoder_steps, diffusion_steps: optimizer steps of each part.
    - batch_size: of captioner and denoiser; the autoencoder takes half of it.
    - sampling_steps, guidance_scale: how the finished generator samples by default.
    - device: where it is trained.
    """

    side: int = 32
    latent_channels: int = 8
    unet_widths: tuple[int, int] = (96, 192)
    captioner_steps: int = 15_000
    autoencoder_steps: int = 4500
    diffusion_steps: int = 9000
    batch_size: int = 128
    sampling_steps: int = 6
    guidance_scale: float = 1.0
    device: str = "cpu"
