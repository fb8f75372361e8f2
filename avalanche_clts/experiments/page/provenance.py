"""When and where something was computed: what a comparison may write beside its runs, for its page."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

_CPUS = Path("/proc/cpuinfo")


def provenance(device: str = "cpu") -> dict[str, Any]:
    """The keys "date" (UTC, ISO 8601), "machine" (its processor, and accelerator if `device` is one) and "threads"
    (that PyTorch computes with)."""
    machine = processor()
    if device.startswith("cuda") and torch.cuda.is_available():
        machine = f"{torch.cuda.get_device_name(device)}, {machine}"
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine,
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    if _CPUS.exists():
        for line in _CPUS.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return " ".join(value.split())
    return platform.processor() or platform.machine() or "unknown"
