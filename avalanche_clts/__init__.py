"""Continual Learning via Text-Image Synergy (CLTS, arXiv 2409.17806) for Avalanche."""

__version__ = "0.1.0"

from ._support import quiet_avalanche  # noqa: F401
from .checkpoint import load_checkpoint, save_checkpoint
from .memory.buffer import CaptionBuffer
from .memory.caption_memory import CaptionMemory
from .memory.captions import Caption
from .metrics import clts_metrics
from .models import RoutedModel
from .pair.captioners import AutoCaptioner, BlipCaptioner, Captioner, LabelCaptioner
from .pair.generators import DiffusionGenerator, Generator
from .pair.loading import Pair, load_pair
from .plugins import CaptionReplayPlugin, CLTSPlugin
from .routers import Router, RouterTraining, TaskRouter
from .strategy import CLTS
from .streams.benchmarks import split_digits, split_folder, split_shapes

__all__ = [
    "CLTS",
    "AutoCaptioner",
    "BlipCaptioner",
    "CLTSPlugin",
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
