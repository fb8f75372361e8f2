"""Whether a device multiplies faster in bfloat16 than in full precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def fast_multiplication(device: str | torch.device) -> AbstractContextManager[Any]:
    """A context in which matrices are multiplied in bfloat16, where the device has instructions for it.

    Up to twice as fast for models as small as the embedded pair; elsewhere the context changes nothing.
    """
    import torch

    kind = torch.device(device).type
    if kind == "cpu":
        has = torch.cpu.get_capabilities()
        supported = bool(has.get("amx_bf16") or has.get("avx512_bf16"))
    else:
        supported = kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(kind, torch.bfloat16) if supported else nullcontext()
