"""How a device computes fastest: bfloat16 where it has it, and plain attention where sequences are short."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def fast_multiplication(device: str | torch.device) -> AbstractContextManager[Any]:
    """A context in which matrices are multiplied in bfloat16, where the device has instructions for it.

    Elsewhere the context changes nothing. What it gains the embedded pair is in benchmarks/results/bfloat16/.
    """
    import torch

    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16) if _has_bfloat16(kind) else nullcontext()


def half_precision(device: str | torch.device) -> torch.dtype:
    """What a large model's weights are held in: bfloat16 where a GPU has it, else float16; float32 on the CPU."""
    import torch

    kind = torch.device(device).type
    if kind == "cpu":
        return torch.float32
    return torch.bfloat16 if _has_bfloat16(kind) else torch.float16


def _has_bfloat16(kind: str) -> bool:
    import torch

    if kind == "cpu":
        has = torch.cpu.get_capabilities()
        return bool(has.get("amx_bf16") or has.get("avx512_bf16"))
    return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def plain_attention(device: str | torch.device) -> AbstractContextManager[Any]:
    """A context in which attention is trained as plain matrix products on the CPU.

    For the few positions of small latents, the backward pass of PyTorch's fused kernel takes a fifth of a training step
    there (benchmarks/results/embedded-pair/). Other devices keep their kernels.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if torch.device(device).type != "cpu":
        return nullcontext()
    context: AbstractContextManager[Any] = sdpa_kernel(SDPBackend.MATH)
    return context
