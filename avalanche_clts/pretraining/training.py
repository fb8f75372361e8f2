"""The loop that every part of a pair is trained by: EMA, cosine schedule, progress bar, and resuming after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .._support.console import bar, begin, detail
from .._support.files import read_state, write_state

SAVE_EVERY = 200  # steps


def fit(
    model: nn.Module,
    batch_loss: Callable[[torch.Generator], Tensor],
    *,
    name: str,
    folder: Path,
    steps: int,
    learning_rate: float,
    ema_decay: float | None = None,
    position: int = 0,
    seed: int = 0,
) -> None:
    """Train `model` in place; leaves the exponential moving average of its weights in it, if one is asked for.

    **Arguments:**

    - model: on the device where it is to be trained.
    - batch_loss: the scalar loss of one batch; draws everything random from the generator it is given, which is on the
        model's device.
    - name: of this part, for the progress bar and the checkpoint's file name.
    - folder: where the checkpoint is kept, with the seconds spent so far. If it holds one, training goes on there, and
        since step k's randomness depends on `seed` and k alone, the result is the same as without the interruption (on
        a GPU, up to its rounding).
    - ema_decay: of the average. Its horizon, 1 / (1 - ema_decay) steps, must be short against `steps`: an average that
        reaches back to a much worse model is a much worse model. None: the last weights.
    - position: of the progress bar, where several parts train side by side.
    - steps: optimizer steps in all; the learning rate warms up over 5% of them and then falls as a cosine.
    """
    checkpoint = folder / f"{name}.safetensors"
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, fused=device.type == "cuda")
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema_decay)) if ema_decay else None
    start, seconds = 0, 0.0
    if checkpoint.exists():
        state = read_state(checkpoint)
        start, seconds = state["step"], state["seconds"]
        model.load_state_dict(state["model"])
        if average is not None:
            average.load_state_dict(state["average"])
        if start < steps:
            optimizer.load_state_dict(state["optimizer"])

    model.train()
    began = time.perf_counter() - seconds
    begin(f"{name}: {steps:,} steps" + (f", going on at {start:,}" if start else ""))
    shown = bar(range(start, steps), initial=start, total=steps, desc=name, position=position, mininterval=2.0)
    smooth = None
    for step in shown:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * _schedule(step / steps)
        loss = batch_loss(torch.Generator(device).manual_seed(seed * 1_000_003 + step))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if average is not None:
            average.update_parameters(model)
        last = loss.item()
        smooth = last if smooth is None else 0.98 * smooth + 0.02 * last
        if not math.isfinite(smooth):
            raise FloatingPointError(f"the loss of the {name} is {last} at step {step}; lower its learning rate")
        shown.set_postfix(loss=f"{smooth:.4f}", refresh=False)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            detail(f"{name}: step {step + 1:,} of {steps:,}, loss {smooth:.4f}")
            done = step + 1 == steps  # a finished part needs no optimizer state
            write_state(
                checkpoint,
                {
                    "step": step + 1,
                    "seconds": time.perf_counter() - began,
                    "model": model.state_dict(),
                    "average": None if average is None else average.state_dict(),
                    "optimizer": None if done else optimizer.state_dict(),
                },
            )
    if average is not None:
        model.load_state_dict(average.module.state_dict())
    model.eval()


def _schedule(progress: float) -> float:
    return min(progress / 0.05, 0.5 * (1 + math.cos(math.pi * progress)) + 0.01)


def draw(count: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """Indices of one batch out of `count` samples, `(batch_size,)`, on the generator's device."""
    return torch.randint(count, (batch_size,), generator=generator, device=generator.device)


def normal(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Standard normal noise, on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)
