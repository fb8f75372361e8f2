"""Continual Learning via Text-Image Synergy (CLTS, arXiv 2409.17806) for Avalanche."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

# Avalanche says so when it is imported; nothing here needs a solver.
warnings.filterwarnings("ignore", message="no QP solver found")

if TYPE_CHECKING:
    from .asking_plugin import AskCaptionerPlugin
    from .checkpoint import load_checkpoint, save_checkpoint
    from .memory.buffer import CaptionBuffer
    from .memory.caption_memory import CaptionMemory
    from .memory.captions import Caption
    from .metrics import clts_metrics
    from .models import RoutedModel
    from .pair.captioners import AutoCaptioner, BlipCaptioner, Captioner, LabelCaptioner
    from .pair.generators import DiffusionGenerator, Generator
    from .pair.image_cache import CachedGenerator
    from .pair.loading import Pair, load_pair
    from .plugins import CaptionReplayPlugin, CLTSPlugin
    from .routers import Router, RouterTraining, TaskRouter
    from .strategy import CLTS
    from .streams.benchmarks import split_digits, split_folder, split_shapes

__all__ = [
    "CLTS",
    "AskCaptionerPlugin",
    "AutoCaptioner",
    "BlipCaptioner",
    "CLTSPlugin",
    "CachedGenerator",
    "Caption",
    "CaptionBuffer",
    "CaptionMemory",
    "CaptionReplayPlugin",
    "Captioner",
    "DiffusionGenerator",
    "Generator",
    "LabelCaptioner",
    "Pair",
    "RoutedModel",
    "Router",
    "RouterTraining",
    "TaskRouter",
    "clts_metrics",
    "load_checkpoint",
    "load_pair",
    "save_checkpoint",
    "split_digits",
    "split_folder",
    "split_shapes",
]

# Where each name is found when it is first asked for: Avalanche takes seconds to import, and `clts --help` needs none
# of it.
_MODULES = {
    "asking_plugin": ("AskCaptionerPlugin",),
    "checkpoint": ("load_checkpoint", "save_checkpoint"),
    "memory.buffer": ("CaptionBuffer",),
    "memory.caption_memory": ("CaptionMemory",),
    "memory.captions": ("Caption",),
    "metrics": ("clts_metrics",),
    "models": ("RoutedModel",),
    "pair.captioners": ("AutoCaptioner", "BlipCaptioner", "Captioner", "LabelCaptioner"),
    "pair.generators": ("DiffusionGenerator", "Generator"),
    "pair.image_cache": ("CachedGenerator",),
    "pair.loading": ("Pair", "load_pair"),
    "plugins": ("CLTSPlugin", "CaptionReplayPlugin"),
    "routers": ("Router", "RouterTraining", "TaskRouter"),
    "strategy": ("CLTS",),
    "streams.benchmarks": ("split_digits", "split_folder", "split_shapes"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
