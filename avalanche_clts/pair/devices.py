"""Is there the device that was asked for?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def require_device(name: str, device: str | torch.device) -> None:
    """Raise `ValueError` unless `device` names one of PyTorch's devices that this machine has."""
    import torch

    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"{name} is {device!r}; it must name a device, such as cpu, cuda or cuda:1") from None
    kinds = {"cuda": torch.cuda.device_count, "mps": lambda: int(torch.backends.mps.is_available())}
    if wanted.type in kinds:
        count = kinds[wanted.type]()
        if (wanted.index or 0) >= count:
            has = f"this machine has {count} of them" if count else "this machine has none that PyTorch can use"
            raise ValueError(f"{name} is {str(device)!r}; {has}")
