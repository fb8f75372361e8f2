"""Latents to small images without an autoencoder's decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_PICTURES = 32  # to fit to
_SIDE = 128  # of each, in pixels
_FINER = 2  # latent pixels a pixel, at least, where the decoder is trusted


class LinearDecoder:
    """The colour of each latent pixel as an affine function of the latents around it: one 3x3 convolution.

    Images have the size of the latents, an eighth of Stable Diffusion's: 64x64 in the place of 512x512, at next to no
    cost; a pipeline's safety checker does not see them. Fitted once, by least squares, to how the autoencoder encodes
    random pictures; a function of the autoencoder alone, so that an image still depends on its prompt and its seed
    only.

    **Arguments:**

    - autoencoder: a pipeline's `vae`.
    """

    def __init__(self, autoencoder: Any) -> None:
        import torch
        from torch.nn.functional import interpolate

        pictures, precision = _random_pictures(), autoencoder.dtype
        if precision != torch.float32:  # in half precision, some autoencoders encode to what is not finite
            autoencoder.to(torch.float32)
        with torch.inference_mode():
            encoded = [autoencoder.encode(p.to(autoencoder.device)) for p in pictures.split(8)]
        if precision != torch.float32:
            autoencoder.to(precision)
        latents = torch.cat([latents_of(e) for e in encoded])
        latents = autoencoder.config.scaling_factor * _centred(latents.float().cpu(), autoencoder.config)
        targets = interpolate(pictures, size=latents.shape[-2:], mode="area").permute(0, 2, 3, 1).flatten(0, 2)
        around = _neighbourhoods(latents).transpose(1, 2).flatten(0, 1)
        around = torch.cat([around, torch.ones(len(around), 1)], dim=1)
        # In single precision, latents that say little would be dropped or kept by how the last digits are rounded.
        solution = torch.linalg.lstsq(around.double(), targets.double()).solution.float()
        self._weight, self._bias = solution[:-1].T.contiguous(), solution[-1]  # (3, 9 x channels) and (3,)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """`(n, channels, h, w)`, as the pipeline's denoiser knows them, to RGB `(n, 3, h, w)` in [0, 1]."""
        around = _neighbourhoods(latents.float())
        rgb = self._weight.to(around) @ around + self._bias.to(around)[:, None]
        return ((rgb.unflatten(2, latents.shape[-2:]) + 1) / 2).clamp(0, 1)


def _centred(latents: torch.Tensor, config: Any) -> torch.Tensor:
    """Latents as the denoiser knows them, but for the scale: of some autoencoders they have a mean and a deviation."""
    mean, std = (getattr(config, name, None) for name in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        return latents
    return (latents - latents.new_tensor(mean).view(1, -1, 1, 1)) / latents.new_tensor(std).view(1, -1, 1, 1)


def latents_of(encoded: Any) -> torch.Tensor:
    """What an autoencoder's `encode` found: a tiny one and Sana's give latents, others a distribution of them."""
    for name in ("latents", "latent"):
        if hasattr(encoded, name):
            latents: torch.Tensor = getattr(encoded, name)
            return latents
    return encoded.latent_dist.mode()


def suffices(pipeline: Any, made: tuple[int, int], wanted: tuple[int, int] | None) -> bool:
    """Whether images as small as the latents serve just as well: they have twice the wanted width and height.

    **Arguments:**

    - made: width and height of the pipeline's images in pixels.
    - wanted: width and height of the images that are asked for. None: not known.
    """
    if wanted is None:
        return False
    latents = [pixels // pipeline.vae_scale_factor for pixels in made]
    return all(have >= _FINER * need for have, need in zip(latents, wanted, strict=True))


def _neighbourhoods(latents: torch.Tensor) -> torch.Tensor:
    """The 3x3 latent pixels around each, `(n, c, h, w)` to `(n, 9 c, h w)`."""
    from torch.nn.functional import pad, unfold

    return unfold(pad(latents, (1, 1, 1, 1), mode="replicate"), 3)


def _random_pictures() -> torch.Tensor:
    """Smooth colours with detail of every size, always the same, `(n, 3, side, side)` in [-1, 1]."""
    import torch
    from torch.nn.functional import interpolate

    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(_PICTURES, 3, _SIDE, _SIDE)
    size = 2
    while size <= _SIDE // 4:
        noise = torch.randn(_PICTURES, 3, size, size, generator=generator)
        total += interpolate(noise, size=(_SIDE, _SIDE), mode="bicubic") / size**0.5
        size *= 2
    return torch.tanh(total)
