"""Avalanche's classic benchmarks that it downloads, of images of one size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .core50 import SCENARIOS, core50
from .kinds import Options, StreamKind, count, one_of, one_side_of

DIGIT = "a handwritten digit {class_name}"
_KNOWS_MNIST = "embedded-mnist-blood"
_EXPERIENCES: dict[str, Callable[[str], Any]] = {"experiences": count}


def core50_run(seed: int) -> int:
    """Which of CORe50's ten fixed orders, its "runs", a seed has: the last is for searches, whose seeds are large."""
    return seed % 9 if seed < 1000 else 9


def _core50(seed: int, options: Options, data_root: Path | None) -> Any:
    scenario, mini = options.get("scenario", "nc"), options.get("size", 32) == 32
    return core50(scenario, core50_run(seed), mini=mini, root=data_root)


def _built_by(builder: str, n_experiences: int) -> Callable[[int, Options, Path | None], Any]:
    """Builds the benchmark of that name in `avalanche.benchmarks.classic`, which is imported when it is built."""

    def build(seed: int, options: Options, data_root: Path | None) -> Any:
        from avalanche.benchmarks import classic

        return getattr(classic, builder)(options.get("experiences", n_experiences), seed=seed, dataset_root=data_root)

    return build


CLASSIC: dict[str, StreamKind] = {
    "split-mnist": StreamKind(
        "Split MNIST: 28x28 grey, 5 experiences",
        _built_by("SplitMNIST", 5),
        _EXPERIENCES,
        template=DIGIT,
        pair=_KNOWS_MNIST,
    ),
    "split-fmnist": StreamKind(
        "Split Fashion-MNIST: 28x28 grey, 5 experiences", _built_by("SplitFMNIST", 5), _EXPERIENCES
    ),
    "split-cifar10": StreamKind(
        "Split CIFAR-10: 32x32 RGB, 5 experiences", _built_by("SplitCIFAR10", 5), _EXPERIENCES, "slim-resnet18"
    ),
    "split-cifar100": StreamKind(
        "Split CIFAR-100: 32x32 RGB, 10 experiences (or experiences=20)",
        _built_by("SplitCIFAR100", 10),
        _EXPERIENCES,
        "slim-resnet18",
    ),
    "split-tiny-imagenet": StreamKind(
        "Split Tiny ImageNet: 64x64 RGB, 200 classes in 10 experiences",
        _built_by("SplitTinyImageNet", 10),
        _EXPERIENCES,
    ),
    "permuted-mnist": StreamKind(
        "Permuted MNIST: domain-incremental, 5 experiences",
        _built_by("PermutedMNIST", 5),
        _EXPERIENCES,
        template=DIGIT,
        pair=_KNOWS_MNIST,
    ),
    "rotated-mnist": StreamKind(
        "Rotated MNIST: domain-incremental, 5 experiences",
        _built_by("RotatedMNIST", 5),
        _EXPERIENCES,
        template=DIGIT,
        pair=_KNOWS_MNIST,
    ),
    "core50": StreamKind(
        "CORe50: 50 objects in video, scenario=nc (or ni, nic, nicv2_79, ...), size=32 (or 128)",
        _core50,
        {
            "scenario": one_of(*SCENARIOS),
            "size": one_side_of(32, 128),
        },
    ),
}
