"""The figures of a page."""

from .ablation_figures import ablation
from .curves import Curves, accuracy_curves, accuracy_figure, memory_accuracy
from .heat_maps import accuracy_matrix, class_accuracy, router_confusion

__all__ = [
    "Curves",
    "ablation",
    "accuracy_curves",
    "accuracy_figure",
    "accuracy_matrix",
    "class_accuracy",
    "memory_accuracy",
    "router_confusion",
]
