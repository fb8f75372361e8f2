"""An autoencoder that decodes as many images at a time as the device has memory for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .batches import BatchSize, run_batches

if TYPE_CHECKING:
    import torch

PIXELS = 2**20  # at a time: four images of 512x512. More are no faster, and take more memory than denoising them did


class Slices:
    """How many latents of a batch are decoded at a time, and what was learnt of the device's memory meanwhile."""

    def __init__(self) -> None:
        self._size = BatchSize(1)

    @contextmanager
    def of(self, pipeline: Any) -> Iterator[None]:
        """A context in which the pipeline's autoencoder decodes a batch in slices, smaller ones where the device runs
        out of memory: what is denoised is not lost.

        Whatever else the pipeline does with latents and images stays its own.
        """
        autoencoder = getattr(pipeline, "vae", None)
        if autoencoder is None:
            yield
            return
        whole, own = autoencoder.decode, vars(autoencoder).get("decode")  # the caller may have put another there
        scale = getattr(pipeline, "vae_scale_factor", 8)

        def decode(latents: torch.Tensor, return_dict: bool = True, generator: Any = None, **others: Any) -> Any:
            import torch
            from diffusers.models.autoencoders.vae import DecoderOutput

            def decoded(rows: slice) -> torch.Tensor:
                noise = generator[rows] if isinstance(generator, list) else generator
                given = others if noise is None else others | {"generator": noise}
                sample: torch.Tensor = whole(latents[rows], return_dict=False, **given)[0]
                return sample

            pixels = scale**2 * latents.shape[-2] * latents.shape[-1]
            self._size = self._size.asked_for(max(1, PIXELS // pixels))
            parts = run_batches(
                range(len(latents)),
                self._size,
                prepare=lambda rows: slice(rows[0], rows[-1] + 1),
                compute=decoded,
                finish=lambda sample: [sample],
                device="cpu",  # the host has nothing to do beside it
            )
            sample = parts[0] if len(parts) == 1 else torch.cat(parts)
            return DecoderOutput(sample=sample) if return_dict else (sample,)

        autoencoder.decode = decode
        try:
            yield
        finally:
            if own is None:
                del autoencoder.decode
            else:
                autoencoder.decode = own
