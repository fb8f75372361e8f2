"""How large a pipeline makes images that are then brought to another size."""

from __future__ import annotations

import itertools
from math import lcm, log, sqrt
from typing import Any

from .pipeline_kinds import native_size

_MULTIPLE = 8  # of pixels, which diffusers' pipelines ask for


def fitting_size(pipeline: Any, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """Width and height, in pixels, of about the shape of the wanted images, and of as many pixels as the pipeline was
    trained at: what is made as a square and squashed shows things wider, or taller, than they are.

    **Arguments:**

    - wanted: width and height of the images that are asked for. None: not known.
    """
    height, width = native_size(pipeline)
    if wanted is None or wanted[0] == wanted[1]:
        return width, height
    side = sqrt(width * height)
    step, ratio = _step(pipeline), wanted[0] / wanted[1]
    ideal = side * sqrt(ratio), side / sqrt(ratio)

    def misfit(made: tuple[int, int]) -> float:
        return 2 * abs(log(made[0] / made[1] / ratio)) + abs(log(made[0] * made[1] / side**2))  # the shape comes first

    widths, heights = ([max(step, int(pixels // step * step) + more) for more in (0, step)] for pixels in ideal)
    return min(itertools.product(widths, heights), key=misfit)


def _step(pipeline: Any) -> int:
    """Pixels that a side is made in whole multiples of, so that latents can be halved as often as the denoiser does."""
    denoiser = getattr(pipeline, "unet", None)
    halvings = 1 if denoiser is None else len(denoiser.config.block_out_channels) - 1  # a transformer's patches are 2x2
    return lcm(int(pipeline.vae_scale_factor) * 2**halvings, _MULTIPLE)
