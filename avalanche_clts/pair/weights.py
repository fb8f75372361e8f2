"""Are a checkpoint's weights whole, and its model's own? Answered in one line."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

# Buffers that older versions of transformers saved and newer ones compute, and a part that no captioner uses.
_COMPUTED = re.compile(r"(^|\.)(position_ids|(attn|crossattention)\.(masked_)?bias|rotary_emb\.inv_freq)$")
_UNUSED = re.compile(r"^encoder\.pooler\.")  # of a vision encoder with a text decoder


_POINTER = b"version https://git-lfs"
_FIRST, _OF_A_TENSOR = 2**20, 1024  # bytes that tell a file from another


class MissingWeightsError(OSError):
    """A checkpoint is not there, not whole, or cannot be fetched."""


def require_all_weights(checkpoint: str, model: Any, info: Mapping[str, Any]) -> None:
    """Raise `MissingWeightsError` unless every weight of a loaded model came from its checkpoint, in its own shape, and
    every weight of the checkpoint went into the model: the libraries would draw what is missing at random, and only
    warn.

    **Arguments:**

    - checkpoint: its name or folder, for the message.
    - info: what `from_pretrained(..., output_loading_info=True)` says of the keys.
    """
    missing = [key for key in info["missing_keys"] if not (_COMPUTED.search(key) or _UNUSED.search(key))]
    unexpected = [key for key in info["unexpected_keys"] if not _COMPUTED.search(key)]
    told = [f"no {listed(missing)}"] if missing else []
    told += [f"{listed(unexpected)}, which it does not know"] if unexpected else []
    misshapen = [key if isinstance(key, str) else key[0] for key in info.get("mismatched_keys", ())]
    told += [f"{listed(misshapen)} in another shape"] if misshapen else []
    if told:
        raise MissingWeightsError(misfit(checkpoint, type(model), told))


def misfit(checkpoint: str, kind: type, told: list[str]) -> str:
    """The message that a checkpoint's weights are not its model's, by what they have."""
    return (
        f"the weights in {checkpoint} are not those of its {kind.__name__}: they have {' and '.join(told)}; "
        "copy the whole checkpoint again, or give another"
    )


def listed(names: list[str]) -> str:
    """The first three of the names in order, and how many more there are."""
    more = len(names) - 3
    return ", ".join(sorted(names)[:3]) + (f" and {more} more" if more > 0 else "")


def telling_bytes(file: Path) -> Iterator[bytes]:
    """What tells a file from another of its name and length, read in a moment: of weights some of every tensor, since a
    checkpoint may have learnt on in its last layers alone; of any other file its beginning."""
    if file.suffix in (".bin", ".pt", ".pth", ".ckpt") and zipfile.is_zipfile(file):  # as PyTorch writes them
        with zipfile.ZipFile(file) as archive:
            yield repr([(member.filename, member.CRC) for member in archive.infolist()]).encode()
        return
    with file.open("rb") as content:
        first = content.read(_FIRST)
        yield first
        for start in _starts_of_tensors(file):
            if start > len(first):
                content.seek(start)
                yield content.read(_OF_A_TENSOR)


def _starts_of_tensors(file: Path) -> list[int]:
    """Where the tensors of a safetensors file begin; none of any other file, or of one that is damaged."""
    if file.suffix != ".safetensors":
        return []
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        try:
            header = json.loads(content.read(min(length, file.stat().st_size)))
            starts = [tensor["data_offsets"][0] for name, tensor in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return []
    return [8 + length + start for start in sorted(starts) if isinstance(start, int) and start >= 0]


def require_whole(file: Path) -> None:
    """Raise `MissingWeightsError` if a file of JSON or of weights is damaged, cut off, or holds more than weights, and
    for any that is but the pointer which git leaves without its extension for large files."""
    with file.open("rb") as content:
        if content.read(len(_POINTER)) == _POINTER:
            raise MissingWeightsError(f"{file} is a pointer of git-lfs, not the file; run: git lfs pull")
    if file.suffix == ".json":
        read_json(file)
    elif file.suffix in (".safetensors", ".bin"):
        shapes_in(file)


def shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the tensors in a file of weights, read without the tensors themselves.

    A `.bin` is read by PyTorch's restricted unpickler, which makes tensors and containers of them, and runs no code.
    Raises `MissingWeightsError` for a file that is damaged, cut off, or a `.bin` that holds anything else.
    """
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, framework="np") as content:
                return {name: tuple(content.get_slice(name).get_shape()) for name in content.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise MissingWeightsError(f"{file} is damaged or truncated ({error}); copy it again") from None
    import torch

    try:
        content = torch.load(file, map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = " ".join(str(error).split())
        raise MissingWeightsError(
            f"{file} is refused, since it is damaged or holds more than weights ({reason[:200]}); give a checkpoint "
            "with .safetensors files"
        ) from None
    except (RuntimeError, EOFError, ValueError, OSError) as error:  # as it happens to be cut
        reason = str(error).partition("\n")[0]
        raise MissingWeightsError(f"{file} is damaged or truncated ({reason}); copy it again") from None
    if not isinstance(content, Mapping):
        raise MissingWeightsError(f"{file} holds a {type(content).__name__}, not weights by their names")
    shapes = {name: tuple(value.shape) for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not shapes:
        raise MissingWeightsError(f"{file} holds no weights; copy it again, or give another checkpoint")
    return shapes


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of JSON, empty for anything else. Raises `MissingWeightsError` if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MissingWeightsError(f"{path} is damaged or truncated ({error}); copy it again") from None
    return content if isinstance(content, dict) else {}
