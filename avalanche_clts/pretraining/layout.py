"""A saved pipeline's files, so that every version of the libraries finds in them what it looks for."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_PREFIX = "text_model."


def lay_out_for_all(pipeline: Path) -> None:
    """Rewrite what some versions of transformers save in a way that others do not read.

    The weights of CLIP's text encoder have the names that Stable Diffusion's have on the hub: without the prefix,
    versions before 5.3 draw them at random. The tokenizer's vocabulary and merges have a file each, beside the one with
    both: version 4 reads those. What is laid out so already stays as it is.

    **Arguments:**

    - pipeline: a folder as `StableDiffusionPipeline.save_pretrained` writes it.
    """
    file = pipeline / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    named = {name if name.startswith(_PREFIX) else _PREFIX + name: weights[name] for name in weights}
    save_file(named, file, metadata={"format": "pt"})
    tokenizer = pipeline / "tokenizer"
    model = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (tokenizer / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    (tokenizer / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def in_eight_bits(pair: Path) -> None:
    """Rewrite a pair's matrices and convolutions in 8 bits, half of what they weigh in 16; they are computed with in
    the same precision as before.

    **Arguments:**

    - pair: a folder as `pretrain` writes it.
    """
    for file in sorted(pair.rglob("*.safetensors")):
        weights = {
            name: tensor.to(torch.float8_e4m3fn) if tensor.dim() > 1 and tensor.is_floating_point() else tensor
            for name, tensor in load_file(file).items()
        }
        save_file(weights, file, metadata={"format": "pt"})
        file.chmod(0o644)
