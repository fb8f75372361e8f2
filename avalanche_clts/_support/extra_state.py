"""Extra state of modules as tensors: a `state_dict` then holds nothing but tensors, and needs no pickle."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor


def to_tensor(state: Any) -> Tensor:
    """What JSON can hold, as a uint8 tensor of its text."""
    return torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)


def from_tensor(state: Tensor) -> Any:
    """What `to_tensor` was given."""
    return json.loads(bytes(state.cpu().tolist()).decode())
