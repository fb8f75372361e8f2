"""Comparisons, ablations and audits: for papers, and not needed by who uses strategy or plugins alone."""

from .ablation import ablate
from .comparison import compare
from .settings import Settings, default_settings

__all__ = ["Settings", "ablate", "compare", "default_settings"]
