"""Backbones by their names on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...networks import NETWORKS, ON_FEATURES

KINDS = ("captioner", "efficientnet-lite0", "timm:NAME", "torchvision:NAME")
_LIBRARIES = ("timm", "torchvision")
_OPTIONS = ("checkpoint", "size")
_NETWORK = "network"  # on the backbone, where nothing else says which


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone as `parse_backbone` reads it.

    **Arguments:**

    - text: as it was given.
    - kind: "captioner", the vision model of the pair's captioner; "efficientnet-lite0", ImageNet weights from a package
        of that name; "timm" or "torchvision".
    - name: of the model in its library; empty for the others.
    - checkpoint: file of its weights, or, of timm, a folder as the hub has it. None: fetched by the library.
    - size: side that images are brought to, in pixels. None: as its weights were trained.
    - network: on its features, a key of `ON_FEATURES`.
    """

    text: str
    kind: str
    name: str = ""
    checkpoint: Path | None = None
    size: int | None = None
    network: str = "linear"


def parse_backbone(argument: str, text: str, *, with_network: bool = False) -> BackboneSpec:
    """The backbone that `text` names: captioner, efficientnet-lite0, timm:NAME or torchvision:NAME, and behind it
    options: `timm:resnet18,checkpoint=FILE`, `efficientnet-lite0,size=128`.

    **Arguments:**

    - argument: for messages.
    - with_network: whether `network=mlp` may stand among the options.

    Raises `ValueError`, listing what is known, for anything else.
    """
    allowed = (*_OPTIONS, _NETWORK) if with_network else _OPTIONS
    whole, *parts = text.split(",")
    kind, colon, name = whole.partition(":")
    known = (kind in _LIBRARIES and name) or (not colon and kind in KINDS)
    if not known:
        networks = ", ".join([*NETWORKS, *KINDS]) if with_network else ", ".join(KINDS)
        raise ValueError(f"{argument} is {text!r}; known {'networks' if with_network else 'backbones'}: {networks}")
    options: dict[str, str] = {}
    for part in parts:
        option, equals, value = part.partition("=")
        if option not in allowed or not equals or not value or option in options:
            listed = ", ".join(f"{name}=..." for name in allowed)
            raise ValueError(f"{argument} is {text!r}; behind a backbone may stand {listed}, each once")
        options[option] = value
    size = options.get("size")
    if size is not None and not (size.isdecimal() and int(size) > 0):
        raise ValueError(f"{argument} is {text!r}; size is a side in pixels, such as size=128")
    if "checkpoint" in options and kind not in _LIBRARIES:
        raise ValueError(f"{argument} is {text!r}; a checkpoint is for timm:NAME or torchvision:NAME")
    if size is not None and kind == "captioner":
        raise ValueError(f"{argument} is {text!r}; the captioner has the size that it was trained with")
    network = options.get(_NETWORK, "linear")
    if network not in ON_FEATURES:
        raise ValueError(f"{argument} is {text!r}; networks on a backbone: {', '.join(ON_FEATURES)}")
    checkpoint = Path(options["checkpoint"]) if "checkpoint" in options else None
    return BackboneSpec(text, kind, name, checkpoint, None if size is None else int(size), network)


def unknown_model(argument: str, spec: BackboneSpec, known: Iterable[str]) -> ValueError:
    """The error for a model that its library does not have, with the names nearest to it."""
    near = difflib.get_close_matches(spec.name, list(known), n=4, cutoff=0.5)
    alike = f"; it has: {', '.join(near)}" if near else ""
    return ValueError(f"{argument} is {spec.text!r}, a model that {spec.kind} does not have{alike}")
