"""What to watch in a CLTS run, as Avalanche metrics: the router, the heads behind it, memory, time, and the images."""

from __future__ import annotations

import sys
import weakref
from abc import abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import torch
from avalanche.evaluation import GenericPluginMetric, PluginMetric
from avalanche.evaluation.metric_results import MetricValue, TensorImage
from avalanche.evaluation.metric_utils import get_metric_name
from avalanche.evaluation.metrics import Mean
from avalanche.logging import TensorboardLogger
from PIL.Image import Resampling
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.transforms.functional import to_tensor
from torchvision.utils import make_grid

from .footprint import caption_buffers, frozen_bytes, memory_bytes, num_exemplars
from .images.avalanche import divided_like_training, sample_nbytes
from .models import Answer, RoutedModel
from .plugins import CLTSPlugin

_SIDE = 32  # of an image in a sample grid, in pixels, at least
_GRID = 8  # images a row and rows at most, in a sample grid


def clts_metrics(
    *,
    router_accuracy: bool = True,
    oracle_accuracy: bool = True,
    memory: bool = True,
    time: bool = True,
    faults: bool = True,
    pair_fit: bool = True,
    samples: bool = True,
    captions: bool = False,
) -> list[PluginMetric[Any]]:
    """The metrics to give to Avalanche's `EvaluationPlugin`.

    ```python
    strategy = CLTS(
        model=model,
        optimizer=Adam(model.parameters()),
        pair=pair,
        train_mb_size=32,
        eval_mb_size=128,
        evaluator=EvaluationPlugin(
            accuracy_metrics(stream=True), clts_metrics(), loggers=[InteractiveLogger()]
        ),
    )
    strategy.train(benchmark.train_stream[0])
    figures = strategy.eval(benchmark.test_stream)
    print(figures["OracleAccuracy_Stream/eval_phase/test_stream/Task000"])
    ```

    **Arguments:**

    - router_accuracy: share of test inputs that the router sends to a right head, by experience and over the stream; of
        those whose head it has seen.
    - oracle_accuracy: accuracy if the router were always right, by experience and over the stream.
    - memory: bytes kept between experiences, by kind, see `memory_bytes`; and what is in use at most, see `PeakMemory`.
    - time: seconds spent so far on captioning, generation and the router.
    - faults: what captioning and generation failed at so far, in numbers; see `Faults`.
    - pair_fit: whether the pair knows the images: captions that name their class, regenerated images that their own
        head recognises, and real ones; see `PairFit`.
    - samples: a grid of regenerated images, as an image.
    - captions: the captions themselves, as text; for `TextTensorboardLogger`.

    Experiences that have not been trained on have no right head and do not count. A head is right for an input if it
    was trained on the input's experience, or, where the test stream is not divided like the training stream, if it
    knows the input's class. What does not apply (no `RoutedModel`, no captions) is not emitted.
    """
    metrics: list[PluginMetric[Any]] = []
    if router_accuracy:
        metrics += [RouterAccuracy("experience"), RouterAccuracy("stream")]
    if oracle_accuracy:
        metrics += [OracleAccuracy("experience"), OracleAccuracy("stream")]
    if memory:
        metrics += [MemoryBytes(), PeakMemory()]
    if time:
        metrics.append(Seconds())
    if faults:
        metrics.append(Faults())
    if pair_fit:
        metrics.append(PairFit())
    if samples:
        metrics.append(RegeneratedImages())
    if captions:
        metrics.append(Captions())
    return metrics


def right_heads(model: RoutedModel, experience: Any, targets: Tensor) -> Tensor:
    """Which heads are right for each input of a test experience, `(n, num_heads)`; see `clts_metrics`."""
    if divided_like_training(experience, [(record.experience, record.classes) for record in model.records]):
        right = [record.experience == experience.current_experience for record in model.records]
        return torch.tensor(right, device=targets.device).expand(len(targets), -1)
    known = [torch.isin(targets, torch.tensor(record.classes, device=targets.device)) for record in model.records]
    return torch.stack(known, dim=1)


class _RoutingMetric(GenericPluginMetric[float, Mean]):
    """Mean over the test inputs that have a right head."""

    def __init__(self, level: str) -> None:
        super().__init__(Mean(), reset_at=level, emit_at=level, mode="eval")
        self.level = level

    def update(self, strategy: Any) -> None:
        model = strategy.model
        if not isinstance(model, RoutedModel) or not model.records:
            return
        right = right_heads(model, strategy.experience, strategy.mb_y)
        counted = right[:, : self.num_counted(model)].any(1)
        if bool(counted.any()):
            # What the strategy's own forward pass has computed of this batch is at hand.
            score = self.score(model, model.answer(strategy.mb_x), right, strategy.mb_y)[counted].float()
            self._metric.update(score.mean().item(), weight=len(score))

    def num_counted(self, model: RoutedModel) -> int:
        """How many heads are far enough to be counted, the first ones."""
        return model.num_heads

    @abstractmethod
    def score(self, model: RoutedModel, answer: Answer, right: Tensor, targets: Tensor) -> Tensor:
        """1 for each input that counts as a success, `(n,)`."""

    def result(self) -> float | None:
        return self._metric.result() if self._metric.weight > 0 else None

    def _package_result(self, strategy: Any) -> list[MetricValue] | None:
        if self.result() is None:
            return None
        packaged: list[MetricValue] = super()._package_result(strategy)
        return packaged

    def __str__(self) -> str:
        return f"{type(self).__name__}_{'Exp' if self.level == 'experience' else 'Stream'}"


class RouterAccuracy(_RoutingMetric):
    """Share of inputs whose likeliest head is a right one; of those whose head the router has seen."""

    def num_counted(self, model: RoutedModel) -> int:
        return max(1, model.router.num_heads) if model.is_ambiguous else model.num_heads

    def score(self, model: RoutedModel, answer: Answer, right: Tensor, targets: Tensor) -> Tensor:
        return right.gather(1, answer.head_probabilities.argmax(1, keepdim=True)).squeeze(1)


class OracleAccuracy(_RoutingMetric):
    """Accuracy if the right heads alone were asked."""

    def score(self, model: RoutedModel, answer: Answer, right: Tensor, targets: Tensor) -> Tensor:
        return model.by_heads(answer, right).argmax(1).eq(targets)


class _AfterExperience(PluginMetric[Any]):
    """Emits values after each training experience, one for each name."""

    def reset(self) -> None:
        """Nothing is accumulated."""

    def result(self) -> None:
        """Values are emitted, not accumulated."""

    @abstractmethod
    def values(self, strategy: Any) -> dict[str, Any]:
        """The values to emit now, by name."""

    def after_training_exp(self, strategy: Any) -> list[MetricValue]:
        prefix = get_metric_name(self, strategy)
        x = strategy.clock.train_iterations
        return [MetricValue(self, f"{prefix}/{name}", value, x) for name, value in self.values(strategy).items()]

    def __str__(self) -> str:
        return type(self).__name__


class MemoryBytes(_AfterExperience):
    """Bytes kept between experiences, by kind, and of what is frozen; see `memory_bytes` and `frozen_bytes`. What is
    unknown is not emitted."""

    def values(self, strategy: Any) -> dict[str, Any]:
        nbytes = sample_nbytes(strategy.experience.dataset) if num_exemplars(strategy) else 0
        frozen = {f"frozen_{name}": count for name, count in frozen_bytes(strategy).items()}
        kept = memory_bytes(strategy, image_nbytes=nbytes)
        return {kind: count for kind, count in kept.items() if count is not None} | frozen


class PeakMemory(_AfterExperience):
    """Bytes that were in use at once so far, at most: by the process, and by PyTorch on a GPU."""

    def values(self, strategy: Any) -> dict[str, Any]:
        peak: dict[str, Any] = {}
        with suppress(ImportError):  # not everywhere
            from resource import RUSAGE_SELF, getrusage

            unit = 1 if sys.platform == "darwin" else 1024
            peak["process"] = unit * getrusage(RUSAGE_SELF).ru_maxrss
        if torch.device(strategy.device).type == "cuda":
            peak["device"] = torch.cuda.max_memory_allocated(strategy.device)
        return peak


class Seconds(_AfterExperience):
    """Seconds spent so far on captioning, generation and the router."""

    def values(self, strategy: Any) -> dict[str, Any]:
        return synthesis_seconds(strategy)


class Faults(_AfterExperience):
    """What captioning and generation failed at so far, in numbers: captions that were empty, prompts that the text
    encoder had not room for, and images that came out black."""

    def values(self, strategy: Any) -> dict[str, Any]:
        return _sum(buffer.faults for buffer in caption_buffers(strategy))


class PairFit(_AfterExperience):
    """Whether the pair knows the images of the newest experience, in shares; see `avalanche_clts.pair_fit.PairFit`."""

    def values(self, strategy: Any) -> dict[str, Any]:
        fits = [asdict(plugin.pair_fit) for plugin in strategy.plugins if isinstance(plugin, CLTSPlugin)]
        return {name: share for fit in fits for name, share in fit.items() if share is not None}


class Captions(_AfterExperience):
    """The captions in memory, a line each."""

    def values(self, strategy: Any) -> dict[str, Any]:
        captions = [caption for buffer in caption_buffers(strategy) for caption in buffer.memory]
        lines = [f"- {c.text} (class {c.target}, experience {c.experience})" for c in captions]
        return {"text": "\n".join(lines)} if lines else {}


class RegeneratedImages(_AfterExperience):
    """A grid of regenerated images, spread over all that there are. Never generates any itself."""

    def values(self, strategy: Any) -> dict[str, Any]:
        made = [made.image for buffer in caption_buffers(strategy) for made in buffer.regenerated]
        if not made:
            return {}
        images = made[:: max(1, len(made) // _GRID**2)][: _GRID**2]
        side = max(_SIDE, *images[0].size)
        same = [to_tensor(image.resize((side, side), Resampling.NEAREST)) for image in images]
        return {"grid": TensorImage(make_grid(same, nrow=_GRID))}

    def before_training_exp(self, strategy: Any) -> list[MetricValue]:
        # Replay generates its images before an experience; the router's are there after it.
        return self.after_training_exp(strategy)


def synthesis_seconds(strategy: Any) -> dict[str, float]:
    """Seconds spent so far on captioning and generation, and on the router where there is one."""
    seconds = _sum(buffer.seconds for buffer in caption_buffers(strategy))
    for plugin in strategy.plugins:
        if isinstance(plugin, CLTSPlugin):
            seconds["router"] = plugin.router_seconds
    return seconds


def _sum(counts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for each in counts:
        total = {name: total.get(name, 0) + count for name, count in each.items()}
    return total


class TextTensorboardLogger(TensorboardLogger):
    """Avalanche's TensorBoard logger, which also logs metrics whose value is a text."""

    def _make_writer(self, tb_log_dir: Any, filename_suffix: str) -> SummaryWriter:
        writer = SummaryWriter(tb_log_dir, filename_suffix=filename_suffix)
        weakref.finalize(self, _close, writer)
        return writer

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        if isinstance(value, str):
            self.writer.add_text(name, value, global_step=x_plot)
        else:
            super().log_single_metric(name, value, x_plot)


def _close(writer: SummaryWriter) -> None:
    """Where the folder has vanished, whoever wrote last has said so; once more at the exit would bury it."""
    with suppress(OSError):
        writer.close()
