"""Is a checkpoint there and whole? Asked before anything large is loaded and when it is, and answered in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

# Buffers that older versions of transformers saved and newer ones compute, and a part that no captioner uses.
_COMPUTED = re.compile(r"(^|\.)(position_ids|(attn|crossattention)\.(masked_)?bias|rotary_emb\.inv_freq)$")
_UNUSED = re.compile(r"^encoder\.pooler\.")  # of a vision encoder with a text decoder


class MissingWeightsError(OSError):
    """A checkpoint is not there, not whole, or cannot be fetched."""


def require_weights(name_or_path: str, *, entry: str, revision: str | None = None) -> None:
    """Raise `MissingWeightsError` unless the checkpoint can be loaded.

    **Arguments:**

    - name_or_path: a folder as `save_pretrained` writes it, or the name of a repository on the Hugging Face hub.
    - entry: the file that every such checkpoint has, `config.json` or `model_index.json`.
    - revision: of the repository on the hub.
    """
    if Path(name_or_path).is_dir():
        _require_whole_folder(Path(name_or_path), entry)
        return
    if Path(name_or_path).is_absolute() or name_or_path.count("/") != 1:
        raise MissingWeightsError(f"{name_or_path} is neither a folder nor the name of a repository (owner/name)")
    from huggingface_hub import HfApi, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name_or_path, entry, revision=revision), str):
        return
    try:
        # One request and no retries: who has no network hears so at once.
        HfApi().model_info(name_or_path, revision=revision, timeout=10)
    except Exception as error:  # the hub's client raises a dozen unrelated types, depending on how it failed
        raise MissingWeightsError(
            f"the weights of {name_or_path} are not in the local cache and cannot be fetched "
            f"({type(error).__name__}); with a network, run: hf download {name_or_path} - "
            'without one, load_pair("embedded") works offline'
        ) from None


def require_all_weights(checkpoint: str, model: Any, info: Mapping[str, Any]) -> None:
    """Raise `MissingWeightsError` unless every weight of a loaded model came from its checkpoint, and every weight of
    the checkpoint went into the model: the libraries would draw what is missing at random, and only warn.

    **Arguments:**

    - checkpoint: its name or folder, for the message.
    - info: what `from_pretrained(..., output_loading_info=True)` says of the keys.
    """
    missing = [key for key in info["missing_keys"] if not (_COMPUTED.search(key) or _UNUSED.search(key))]
    unexpected = [key for key in info["unexpected_keys"] if not _COMPUTED.search(key)]
    told = [f"no {_listed(missing)}"] if missing else []
    told += [f"{_listed(unexpected)}, which it does not know"] if unexpected else []
    if told:
        raise MissingWeightsError(
            f"the weights in {checkpoint} are not those of its {type(model).__name__}: they have {' and '.join(told)}; "
            "copy the whole checkpoint again, or give another"
        )


def _listed(keys: list[str]) -> str:
    more = len(keys) - 3
    return ", ".join(sorted(keys)[:3]) + (f" and {more} more" if more > 0 else "")


def _require_whole_folder(folder: Path, entry: str) -> None:
    if not (folder / entry).is_file():
        raise MissingWeightsError(f"{folder} has no {entry}; copy the whole checkpoint, as save_pretrained wrote it")
    parts = [folder]
    if entry == "model_index.json":
        # Entries such as "unet": ["diffusers", "UNet2DConditionModel"] name the parts; [null, null] is a part left out.
        index = read_json(folder / entry)
        parts = [folder / k for k, v in index.items() if isinstance(v, list) and v and v[0] is not None]
    for part in parts:
        if not part.is_dir() or not any(part.glob("*.json")):
            raise MissingWeightsError(f"{part} is missing or empty; copy the whole checkpoint again")
        for file in part.glob("*.json"):
            read_json(file)
        files = list(part.glob("*.safetensors"))
        if (part / "config.json").is_file() and not files:
            raise MissingWeightsError(f"{part} has no .safetensors file; copy the whole checkpoint again")
        for file in files:
            try:
                with safe_open(file, framework="pt"):
                    pass
            except SafetensorError as error:
                raise MissingWeightsError(f"{file} is damaged or truncated ({error}); copy it again") from None


def read_json(path: Path) -> dict[str, object]:
    """The object in a file of JSON, empty for anything else. Raises `MissingWeightsError` if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MissingWeightsError(f"{path} is damaged or truncated ({error}); copy it again") from None
    return content if isinstance(content, dict) else {}
