"""What to watch in a CLTS run, as Avalanche metrics: the router, the heads behind it, memory, time, and the images."""

from __future__ import annotations

import sys
import weakref
from abc import abstractmethod
from contextlib import suppress
from typing import Any

import torch
from avalanche.evaluation import GenericPluginMetric, PluginMetric
from avalanche.evaluation.metric_results import MetricValue, TensorImage
from avalanche.evaluation.metric_utils import get_metric_name
from avalanche.evaluation.metrics import Mean
from avalanche.logging import TensorboardLogger
from avalanche.training.plugins import (
    EWCPlugin,
    GenerativeReplayPlugin,
    LwFPlugin,
    SynapticIntelligencePlugin,
)
from avalanche.training.storage_policy import ExemplarsBuffer
from avalanche.training.supervised import DER, Cumulative
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torchvision.transforms.functional import to_tensor
from torchvision.utils import make_grid

from .images.avalanche import image_format
from .memory.buffer import CaptionBuffer
from .models import RoutedModel
from .pair.loading import pair_nbytes

_GRID = 8  # images a row and rows at most, in a sample grid


def clts_metrics(
    *,
    router_accuracy: bool = True,
    oracle_accuracy: bool = True,
    memory: bool = True,
    time: bool = True,
    faults: bool = True,
    samples: bool = True,
    captions: bool = False,
) -> list[PluginMetric[Any]]:
    """The metrics to give to Avalanche's `EvaluationPlugin`.

    **Arguments:**

    - router_accuracy: share of test inputs that the router sends to a right head, by experience and over the stream.
    - oracle_accuracy: accuracy if the router were always right, by experience and over the stream.
    - memory: bytes kept between experiences, by kind, see `memory_bytes`; and what is in use at most, see `PeakMemory`.
    - time: seconds spent so far on captioning, generation and the router.
    - faults: what captioning and generation failed at so far, in numbers; see `Faults`.
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
    if samples:
        metrics.append(RegeneratedImages())
    if captions:
        metrics.append(Captions())
    return metrics


def memory_bytes(strategy: Any, *, image_nbytes: int = 0) -> dict[str, int]:
    """Bytes that a strategy keeps between experiences, by kind.

    - captions: as written to disk, compressed.
    - exemplars: stored images as raw uint8, `image_nbytes` each (height x width x channels of the native image), and
        the logits that DER stores with them.
    - heads, router: parameters and buffers of a `RoutedModel`'s.
    - network: parameters and buffers of any other model, with the copies and importances that EWC, SI and LwF keep of
        it, and the generator of generative replay.

    The pretrained pair and a frozen pretrained backbone are not among them; see `frozen_bytes`.
    """
    model = strategy.model
    routed = isinstance(model, RoutedModel)
    captions = caption_buffer(strategy)
    return {
        "captions": captions.memory.nbytes if captions is not None else 0,
        "exemplars": num_exemplars(strategy) * image_nbytes + _logits_nbytes(strategy),
        "heads": module_nbytes(model.heads) if routed else 0,
        "router": module_nbytes(model.router) if routed else 0,
        "network": 0 if routed else module_nbytes(model) + sum(map(_companions_nbytes, strategy.plugins)),
    }


def frozen_bytes(strategy: Any) -> dict[str, int]:
    """Bytes of what is pretrained, frozen and the same for every stream: the pair and a shared backbone."""
    captions = caption_buffer(strategy)
    backbone = getattr(strategy.model, "backbone", None)
    return {
        "pair": (pair_nbytes(captions.pair) or 0) if captions is not None else 0,
        "backbone": module_nbytes(backbone) if isinstance(backbone, nn.Module) else 0,
    }


def num_exemplars(strategy: Any) -> int:
    """How many real images the strategy keeps."""
    if isinstance(strategy, Cumulative):
        return len(strategy.dataset)
    keepers = [strategy, *strategy.plugins]
    policies = [getattr(keeper, "storage_policy", None) for keeper in keepers]
    stored = [p.buffer for p in policies if isinstance(p, ExemplarsBuffer) and not isinstance(p, CaptionBuffer)]
    stored += [images for keeper in keepers for images in getattr(keeper, "x_memory", [])]  # iCaRL
    return sum(map(len, stored))


def _logits_nbytes(strategy: Any) -> int:
    if not isinstance(strategy, DER) or len(strategy.storage_policy.buffer) == 0:
        return 0
    logits = strategy.storage_policy.buffer.logits
    return sum(row.numel() * row.element_size() for row in map(torch.as_tensor, logits))


def _companions_nbytes(plugin: Any) -> int:
    """Bytes of what a plugin keeps of, or beside, the network."""
    if isinstance(plugin, EWCPlugin):
        groups = [group for kept in (plugin.saved_params, plugin.importances) for group in kept.values()]
    elif isinstance(plugin, SynapticIntelligencePlugin):
        groups = [*plugin.ewc_data, plugin.syn_data["cum_trajectory"]]
    elif isinstance(plugin, LwFPlugin) and plugin.lwf.prev_model is not None:
        return module_nbytes(plugin.lwf.prev_model)
    elif isinstance(plugin, GenerativeReplayPlugin) and plugin.generator is not None:
        return module_nbytes(plugin.generator)
    else:
        return 0
    return sum(data.data.numel() * data.data.element_size() for group in groups for data in group.values())


def module_nbytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])


def caption_buffer(strategy: Any) -> CaptionBuffer | None:
    """The strategy's memory of captions, if one of its plugins has one."""
    for plugin in strategy.plugins:
        policy = getattr(plugin, "storage_policy", None)
        if isinstance(policy, CaptionBuffer):
            return policy
    return None


def right_heads(model: RoutedModel, experience: Any, targets: Tensor) -> Tensor:
    """Which heads are right for each input of a test experience, `(n, num_heads)`; see `clts_metrics`."""
    if _divided_like_training(experience):
        right = [record.experience == experience.current_experience for record in model.records]
        return torch.tensor(right, device=targets.device).expand(len(targets), -1)
    known = [torch.isin(targets, torch.tensor(record.classes, device=targets.device)) for record in model.records]
    return torch.stack(known, dim=1)


def _divided_like_training(experience: Any) -> bool:
    """Whether test experience t goes with training experience t, as far as the benchmark tells."""
    stream = experience.origin_stream
    training = getattr(getattr(stream, "benchmark", None), "train_stream", None)
    return training is not None and len(training) == len(stream)


class _RoutingMetric(GenericPluginMetric[float, Mean]):
    """Mean over the test inputs that have a right head."""

    def __init__(self, level: str) -> None:
        super().__init__(Mean(), reset_at=level, emit_at=level, mode="eval")
        self.level = level

    def update(self, strategy: Any) -> None:
        if not isinstance(strategy.model, RoutedModel) or not strategy.model.records:
            return
        right = right_heads(strategy.model, strategy.experience, strategy.mb_y)
        counted = right.any(1)
        if bool(counted.any()):
            labels = strategy.mb_task_id if hasattr(strategy.experience, "task_labels") else None
            score = self.score(strategy, right, labels)[counted].float()
            self._metric.update(score.mean().item(), weight=len(score))

    @abstractmethod
    def score(self, strategy: Any, right: Tensor, labels: Tensor | None) -> Tensor:
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
    """Share of inputs whose likeliest head is a right one."""

    def score(self, strategy: Any, right: Tensor, labels: Tensor | None) -> Tensor:
        chosen = strategy.model.route(strategy.mb_x, labels).argmax(1, keepdim=True)
        return right.gather(1, chosen).squeeze(1)


class OracleAccuracy(_RoutingMetric):
    """Accuracy if the right heads alone were asked."""

    def score(self, strategy: Any, right: Tensor, labels: Tensor | None) -> Tensor:
        model = strategy.model
        shares = right.float() / right.sum(1, keepdim=True).clamp_min(1)
        output: Tensor = model.mixture(model.features(strategy.mb_x), shares)
        return output.argmax(1).eq(strategy.mb_y)


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
    """Bytes kept between experiences, by kind, and of what is frozen; see `memory_bytes` and `frozen_bytes`."""

    def values(self, strategy: Any) -> dict[str, Any]:
        nbytes = image_format(strategy.experience.dataset).nbytes if num_exemplars(strategy) else 0
        frozen = {f"frozen_{name}": count for name, count in frozen_bytes(strategy).items()}
        return memory_bytes(strategy, image_nbytes=nbytes) | frozen


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
    encoder had not room for, images that came out black, and images that their own head did not recognise."""

    def values(self, strategy: Any) -> dict[str, Any]:
        buffer = caption_buffer(strategy)
        if buffer is None:
            return {}
        faults = buffer.faults | {"cut_prompts": getattr(buffer.pair.generator, "num_cut_prompts", 0)}
        discarded = [plugin.num_discarded for plugin in strategy.plugins if hasattr(plugin, "num_discarded")]
        return faults | ({"unrecognised_images": sum(discarded)} if discarded else {})


class Captions(_AfterExperience):
    """The captions in memory, a line each."""

    def values(self, strategy: Any) -> dict[str, Any]:
        buffer = caption_buffer(strategy)
        if buffer is None:
            return {}
        return {"text": "\n".join(f"- {c.text} (class {c.target}, experience {c.experience})" for c in buffer.memory)}


class RegeneratedImages(_AfterExperience):
    """A grid of regenerated images, spread over all that there are. Never generates any itself."""

    def values(self, strategy: Any) -> dict[str, Any]:
        buffer = caption_buffer(strategy)
        if buffer is None or not buffer.is_generated:
            return {}
        images = buffer.images[:: max(1, len(buffer.images) // _GRID**2)][: _GRID**2]
        return {"grid": TensorImage(make_grid([to_tensor(image) for image in images], nrow=_GRID))}

    def before_training_exp(self, strategy: Any) -> list[MetricValue]:
        # Replay generates its images before an experience; the router's are there after it.
        return self.after_training_exp(strategy)


def synthesis_seconds(strategy: Any) -> dict[str, float]:
    """Seconds spent so far on captioning and generation, and on the router where there is one."""
    buffer = caption_buffer(strategy)
    seconds = dict(buffer.seconds) if buffer is not None else {}
    for plugin in strategy.plugins:
        if hasattr(plugin, "router_seconds"):
            seconds["router"] = plugin.router_seconds
    return seconds


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
