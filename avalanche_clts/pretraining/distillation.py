"""The same images in fewer sampling steps, without guidance's second pass: a denoiser learns its own guided sampling.

Progressive distillation (Salimans and Ho, ICLR 2022) of a guided model (Meng et al., CVPR 2023), in one round: of every
trajectory, the student learns to jump from each of its own timesteps to where the teacher was at its next.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor, nn

from .._support.console import bar, begin
from .._support.files import read_state, write_state
from ..pair.precision import fast_multiplication, plain_attention
from .recipe import Recipe
from .training import draw, fit

_CHUNK = 250  # trajectories a file


class Sampler(NamedTuple):
    """What samples, and what of.

    **Arguments:**

    - tokens: token ids of the captions and, in the last row, of the empty text, `(n + 1, length)`.
    - scheduler: that the finished generator samples with.
    """

    denoiser: UNet2DConditionModel
    text_encoder: nn.Module
    tokens: Tensor
    scheduler: DPMSolverMultistepScheduler


def distill(sampler: Sampler, *, work: Path, recipe: Recipe) -> None:
    """Train the denoiser in place to sample in `recipe.sampling_steps` as it now does in `recipe.teacher_steps`.

    **Arguments:**

    - work: folder of trajectories and checkpoints that a killed run goes on from.
    """
    captions, states = (part.to(recipe.device) for part in _trajectories(sampler, work, recipe))
    denoiser, text_encoder, tokens, scheduler = sampler
    timesteps = _timesteps(scheduler, recipe.sampling_steps).to(recipe.device)
    alphas, sigmas = (level.to(recipe.device) for level in _levels(scheduler, timesteps))

    def batch_loss(generator: torch.Generator) -> Tensor:
        i = draw(len(states), recipe.batch_size, generator)
        step = draw(len(timesteps), recipe.batch_size, generator)
        here, there = states[i, step], states[i, step + 1]
        levels = (level[k].view(-1, 1, 1, 1) for k in (step, step + 1) for level in (alphas, sigmas))
        target = _velocity_between(here, there, *levels)
        with torch.no_grad():
            text = text_encoder(tokens[captions[i]]).last_hidden_state
        with fast_multiplication(recipe.device), plain_attention(recipe.device):
            predicted = denoiser(here, timesteps[step], text).sample
        return F.mse_loss(predicted.float(), target)

    fit(
        denoiser,
        batch_loss,
        name="distillation",
        folder=work,
        steps=recipe.distillation_steps,
        learning_rate=2e-4,
        ema_decay=0.99,
    )


def _trajectories(sampler: Sampler, work: Path, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """All of them, `captions` and `states` as from `_sample`; those that `work` holds are not sampled again."""
    parts = []
    begin(f"trajectories of the teacher: {recipe.num_trajectories:,}")
    for number in bar(range(-(-recipe.num_trajectories // _CHUNK)), desc="trajectories", mininterval=2.0):
        file = work / "trajectories" / f"{number:04}.safetensors"
        if not file.exists():
            write_state(file, _sample(sampler, number, recipe))
        parts.append(read_state(file))
    return torch.cat([part["captions"] for part in parts]), torch.cat([part["states"] for part in parts])


@torch.inference_mode()
def _sample(sampler: Sampler, number: int, recipe: Recipe) -> dict[str, Tensor]:
    """One chunk: the `captions`' rows of tokens, `(n,)`, and the teacher's latents at each of the student's timesteps
    and at the end, `states`, `(n, steps + 1, c, h, w)`."""
    denoiser, text_encoder, tokens, scheduler = sampler
    generator = torch.Generator().manual_seed(number)
    count = min(_CHUNK, recipe.num_trajectories - number * _CHUNK)
    captions = draw(len(tokens) - 1, count, generator)
    shape = (count, recipe.latent_channels, recipe.latent_side, recipe.latent_side)
    latents = torch.randn(shape, generator=generator).to(recipe.device)
    prompts = torch.cat([tokens[-1:].expand(count, -1), tokens[captions.to(tokens.device)]])
    text = text_encoder(prompts).last_hidden_state
    scheduler.set_timesteps(recipe.teacher_steps)
    states = [latents]
    for index, timestep in enumerate(scheduler.timesteps, 1):
        with fast_multiplication(recipe.device):
            without, with_text = denoiser(torch.cat([latents, latents]), timestep, text).sample.float().chunk(2)
        velocity = without + recipe.guidance_scale * (with_text - without)
        latents = scheduler.step(velocity, timestep, latents).prev_sample
        if index % (recipe.teacher_steps // recipe.sampling_steps) == 0:
            states.append(latents)
    return {"captions": captions, "states": torch.stack(states, dim=1).cpu()}


def _timesteps(scheduler: DPMSolverMultistepScheduler, steps: int) -> Tensor:
    scheduler.set_timesteps(steps)
    return scheduler.timesteps.clone()


def _levels(scheduler: DPMSolverMultistepScheduler, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """What of an image and what of its noise is in the latents at each timestep and, after the last, in the image."""
    cumulative = torch.cat([scheduler.alphas_cumprod[timesteps.cpu()], torch.ones(1)])
    return cumulative.sqrt(), (1 - cumulative).sqrt()


def _velocity_between(
    here: Tensor, there: Tensor, alpha: Tensor, sigma: Tensor, alpha_to: Tensor, sigma_to: Tensor
) -> Tensor:
    """The velocity whose DDIM step leads from one state to the other."""
    ratio = sigma_to / sigma
    clean = (there - ratio * here) / (alpha_to - ratio * alpha)
    noise = (here - alpha * clean) / sigma
    return alpha * noise - sigma * clean
