"""Files that are whole or not there: text, and nested state in safetensors, which executes nothing on load."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


def write_state(path: Path, state: Any) -> None:
    """Write `state` beside `path`, then rename: an interrupted write leaves the previous file whole.

    **Arguments:**

    - path: the `.safetensors` file; its folder is made if missing.
    - state: dicts (string or integer keys), lists, tuples, numbers, strings, booleans, None and tensors, nested.
    """
    tensors: dict[str, torch.Tensor] = {}
    structure = json.dumps(_pack(state, tensors))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={"structure": structure})
    partial.replace(path)


def read_state(path: Path) -> Any:
    """What `write_state` wrote to `path`; tuples come back as lists, tensors on the CPU.

    Raises `ValueError` if the file is damaged or was not written by `write_state`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            structure = json.loads((file.metadata() or {})["structure"])
            names = list(file.keys())
            return _unpack(structure, {name: file.get_tensor(name) for name in names})
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or not a state file of this library ({error}); remove it") from error


def write_text(path: Path, text: str) -> None:
    """Write beside `path`, then rename: a reader never sees half a file, not even after a power failure."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    to_disk(partial)
    partial.replace(path)


def to_disk(file: Path) -> None:
    """Wait until the file is on the disk: a renamed file whose content is not would be empty after a power failure."""
    with file.open("r+b") as content:
        os.fsync(content.fileno())


def _pack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, torch.Tensor):
        name = f"tensor{len(tensors)}"
        # A copy of its own: safetensors refuses tensors that share storage.
        tensors[name] = node.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(node, dict):
        return {"dict": [[key, _pack(value, tensors)] for key, value in node.items()]}
    if isinstance(node, (list, tuple)):
        return {"list": [_pack(value, tensors) for value in node]}
    if node is None or isinstance(node, (bool, int, float, str)):
        return {"value": node}
    raise TypeError(f"state of type {type(node).__name__} cannot be written without pickle")


def _unpack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpack(value, tensors) for key, value in content}
    if kind == "list":
        return [_unpack(value, tensors) for value in content]
    return content
