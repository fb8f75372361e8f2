"""One strategy, one stream, one seed: train through the stream and measure."""

from __future__ import annotations

import itertools
import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from avalanche.benchmarks import NCScenario
from avalanche.evaluation.metrics import accuracy_metrics, bwt_metrics, forgetting_metrics
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import JointTraining
from avalanche.training.templates import SupervisedTemplate

from ... import __version__
from ..._support.files import write_text
from ...checkpoint import load_checkpoint, save_checkpoint
from ...footprint import caption_buffers, memory_bytes
from ...images.avalanche import image_format
from ...loggers import WandBRuns
from ...metrics import TextTensorboardLogger, clts_metrics, synthesis_seconds
from ...pair.loading import Pair
from ...plugins import CLTSPlugin
from ...streams.named import Stream
from ...streams.orders import num_classes
from ..experiment import Experiment
from ..rows import ROWS, Results, Setup
from ..rows.row import SHARED
from ..rows.shared import apply_shared
from ..validation import held_out
from .backbones import networks_of, store_of_run
from .lock import require_still_there
from .measures import class_accuracy, last_value, router_confusion, summarize_matrix

Progress = Callable[[str], None]
_MATRIX = "rows.json"


def run(
    experiment: Experiment,
    strategy: str,
    seed: int,
    *,
    stream: Stream,
    pair: Pair,
    tensorboard: Path | None = None,
    wandb: WandBRuns | None = None,
    clts: Results | None = None,
    unfinished: Path | None = None,
    kept: Path | None = None,
    features: Path | None = None,
    images: Path | None = None,
    progress: Progress = lambda message: None,
) -> Results:
    """Train `strategy` through the experiment's stream and return its record, as `results.json` holds it.

    **Arguments:**

    - seed: of the order of classes, of all initial weights and of every random choice.
    - stream, pair: those of the experiment, made.
    - tensorboard: folder of the event files. None: there are none.
    - wandb: where the run is logged on Weights & Biases. None: nowhere.
    - clts: the finished CLTS run on the same stream and seed, for the strategies whose budget depends on it.
    - unfinished: folder of the checkpoints that an interrupted run goes on from. Strategies that keep captions write
        one after each experience. None: there are none.
    - kept: folder for a checkpoint of the trained strategy, if it keeps captions. None: it is not kept.
    - features, images: database of the features of the stream's images, and folder of generated images that runs
        share; see `store_of_run`.
    - progress: told where the run is.
    """
    agent, benchmark = build(
        experiment,
        strategy,
        seed,
        stream=stream,
        pair=pair,
        tensorboard=tensorboard,
        clts=clts,
        features=features,
        images=images,
    )
    # Stored images are not in a checkpoint: no run goes on without them.
    resumes = caption_buffers(agent) and experiment.memory != "images"
    with _logged(agent, wandb, f"{stream.name}, {strategy}, seed {seed}", experiment):
        course, metrics = _train_and_evaluate(agent, benchmark, unfinished if resumes else None, progress)
    if kept is not None and caption_buffers(agent):
        save_checkpoint(agent, kept)
    synthesis = synthesis_seconds(agent)
    image_nbytes = image_format(benchmark.train_stream[0].dataset).nbytes
    return {
        "stream": stream.name,
        "strategy": strategy,
        "seed": seed,
        "accuracy_matrix": course.matrix,
        **summarize_matrix(course.matrix),
        "router_accuracy": last_value(metrics, "RouterAccuracy_Stream"),
        "oracle_accuracy": last_value(metrics, "OracleAccuracy_Stream"),
        "router_confusion": router_confusion(agent, benchmark.test_stream),
        "class_accuracy": class_accuracy(agent, benchmark.test_stream, num_classes(benchmark)),
        "memory_bytes": _memory_bytes(agent, experiment, image_nbytes),
        "pair_fit": course.pair_fit or None,
        "seconds": {
            "total": sum(course.seconds),
            "evaluation": sum(course.evaluation),
            **{kind: synthesis.get(kind) for kind in ("captioning", "generation", "router")},
        },
    }


def build(
    experiment: Experiment,
    strategy: str,
    seed: int,
    *,
    stream: Stream,
    pair: Pair,
    tensorboard: Path | None = None,
    clts: Results | None = None,
    features: Path | None = None,
    images: Path | None = None,
) -> tuple[SupervisedTemplate, NCScenario]:
    """The strategy, untrained, and the benchmark. **Arguments:** as in `run`."""
    RNGManager.set_random_seeds(seed)
    benchmark = stream.build(seed)
    if experiment.validation:
        benchmark = held_out(benchmark, experiment.validation)
    format = image_format(benchmark.train_stream[0].dataset)
    example = torch.stack([x for x, *_ in itertools.islice(benchmark.train_stream[0].dataset.eval(), 64)])
    options = experiment.options_of(strategy)
    shared = {name: value for name, value in options.items() if name in SHARED}
    store = store_of_run(features, images) if experiment.backbones else None
    networks = networks_of(experiment, benchmark, pair, store)
    setup = Setup(
        network=networks.network,
        router=networks.router,
        backbone=networks.backbone,
        num_classes=num_classes(benchmark),
        captions_per_class=experiment.captions_per_class,
        num_captions=experiment.captions_per_class
        * sum(len(experience.classes_in_this_experience) for experience in benchmark.train_stream),
        image_nbytes=format.nbytes,
        input_shape=tuple(example.shape[1:]),
        value_range=(example.min().item(), example.max().item()),
        train_epochs=experiment.train_epochs,
        train_mb_size=experiment.train_mb_size,
        eval_mb_size=experiment.eval_mb_size,
        learning_rate=shared.get("learning_rate", experiment.learning_rate),
        memory=experiment.memory,
        routing=experiment.routing,
        router_view=experiment.router_view,
        options={name: value for name, value in options.items() if name not in SHARED},
        pair=pair,
        evaluator=_evaluator(tensorboard),
        device=experiment.device,
        clts=clts,
    )
    agent = ROWS[strategy].build(setup)
    apply_shared(agent, shared)
    return agent, benchmark


@dataclass
class _Course:
    """How a run has gone so far.

    **Arguments:**

    - matrix: of accuracy, a row for each experience learnt.
    - pair_fit: whether the pair knew the images of each, see `PairFit`; empty for strategies without.
    - seconds, evaluation: spent in training, captioning and generation among it, and in evaluation, after each.
    """

    matrix: list[list[float]] = field(default_factory=list)
    pair_fit: list[dict[str, float | None]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    evaluation: list[float] = field(default_factory=list)

    def until(self, learnt: int) -> _Course:
        """How it had gone after so many experiences."""
        return _Course(**{name: values[:learnt] for name, values in vars(self).items()})


@contextmanager
def _logged(agent: SupervisedTemplate, wandb: WandBRuns | None, name: str, experiment: Experiment) -> Iterator[None]:
    if wandb is None:
        yield
        return
    with wandb.logger(name, experiment.settings()) as logger:
        agent.evaluator.loggers.append(logger)
        yield


def _train_and_evaluate(
    agent: SupervisedTemplate, benchmark: NCScenario, unfinished: Path | None, progress: Progress
) -> tuple[_Course, dict[str, Any]]:
    """How it went, and the last metrics."""
    stream = benchmark.train_stream
    # Joint training takes the whole stream at once.
    steps: list[Any] = [stream] if isinstance(agent, JointTraining) else list(stream)
    course = _resume(agent, unfinished)
    metrics: dict[str, Any] = {}
    for number, step in enumerate(steps[len(course.matrix) :], len(course.matrix) + 1):
        progress(f"experience {number}/{len(steps)}")
        start = time.perf_counter()
        with _without_deprecation_of_update():
            agent.train(step, eval_streams=[])
        trained = time.perf_counter()
        metrics = agent.eval(benchmark.test_stream)
        course.seconds.append(trained - start)
        course.evaluation.append(time.perf_counter() - trained)
        row = [last_value(metrics, "Top1_Acc_Exp", f"Exp{j:03d}") for j in range(len(benchmark.test_stream))]
        course.matrix.append([float(accuracy) for accuracy in row if accuracy is not None])
        course.pair_fit += [asdict(plugin.pair_fit) for plugin in agent.plugins if isinstance(plugin, CLTSPlugin)]
        if unfinished is not None and number < len(steps):
            require_still_there(unfinished)
            # The rows first: those of an experience that the checkpoint does not know yet are left out on resuming.
            write_text(unfinished / _MATRIX, json.dumps(asdict(course)))
            save_checkpoint(agent, unfinished)
    return course, metrics


def _resume(agent: SupervisedTemplate, unfinished: Path | None) -> _Course:
    """Put the agent where an interrupted run stopped; how it had gone until there."""
    if unfinished is None:
        return _Course()
    unfinished.mkdir(parents=True, exist_ok=True)
    try:
        course = _Course(**json.loads((unfinished / _MATRIX).read_text(encoding="utf-8")))
        return course.until(load_checkpoint(agent, unfinished))
    except (FileNotFoundError, ValueError, TypeError):  # nothing that is whole: the run starts anew
        shutil.rmtree(unfinished)
        unfinished.mkdir()
        return _Course()


def _memory_bytes(agent: SupervisedTemplate, experiment: Experiment, image_nbytes: int) -> dict[str, int | None]:
    """What the strategy keeps between experiences, None where that is unknown; captions that are numbers of stored
    images count as these."""
    kept = memory_bytes(agent, image_nbytes=image_nbytes)
    if experiment.memory != "images" or not caption_buffers(agent):
        return kept
    stored = sum(len(buffer.memory) for buffer in caption_buffers(agent))
    return kept | {"captions": 0, "exemplars": stored * image_nbytes}


@contextmanager
def _without_deprecation_of_update() -> Iterator[None]:
    """Avalanche's own ReplayPlugin calls what Avalanche has deprecated, and its decorator overrules every filter."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    for warning in caught:
        if "deprecated function update" not in str(warning.message):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _evaluator(tensorboard: Path | None) -> EvaluationPlugin:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No loggers specified")
        return EvaluationPlugin(
            accuracy_metrics(epoch=True, experience=True, stream=True),
            forgetting_metrics(experience=True, stream=True),
            bwt_metrics(stream=True),
            clts_metrics(captions=True),
            loggers=[] if tensorboard is None else [TextTensorboardLogger(tensorboard)],
        )


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    names = ("avalanche-lib", "torch", "torchvision", "transformers", "diffusers", "numpy")
    return {"avalanche-clts": __version__} | {name: version(name) for name in names}
