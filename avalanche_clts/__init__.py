"""Continual Learning via Text-Image Synergy (CLTS, arXiv 2409.17806) for Avalanche."""

__version__ = "0.1.0"

from . import _avalanche  # noqa: F401
from .buffer import CaptionBuffer
from .captioners import AutoCaptioner, BlipCaptioner, Captioner, LabelCaptioner
from .captions import Caption
from .checkpoint import load_checkpoint, save_checkpoint
from .generators import DiffusionGenerator, Generator
from .memory import CaptionMemory
from .metrics import clts_metrics
from .models import RoutedModel, TaskRouter
from .pairs import Pair, load_pair
from .plugins import CaptionReplayPlugin, CLTSPlugin
from .strategy import CLTS
from .streams import split_digits, split_folder, split_shapes

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
    "TaskRouter",
    "clts_metrics",
    "load_checkpoint",
    "load_pair",
    "save_checkpoint",
    "split_digits",
    "split_folder",
    "split_shapes",
]
