"""Beside which plugins ReplayPlugin works, CaptionReplayPlugin does, and CLTS beside those that go with it.

The patterns are those of Avalanche's own tests of strategies and plugins, written anew.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.benchmarks import benchmark_with_validation_stream
from avalanche.training.plugins import (
    AGEMPlugin,
    CoPEPlugin,
    EarlyStoppingPlugin,
    EvaluationPlugin,
    EWCPlugin,
    FromScratchTrainingPlugin,
    GDumbPlugin,
    GSS_greedyPlugin,
    LRSchedulerPlugin,
    LwFPlugin,
    MASPlugin,
    MIRPlugin,
    ReplayPlugin,
    RWalkPlugin,
    SupervisedPlugin,
    SynapticIntelligencePlugin,
)
from avalanche.training.supervised import Cumulative, JointTraining, LwF, Naive
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import MultiStepLR, ReduceLROnPlateau, StepLR

from avalanche_clts import CaptionReplayPlugin, CLTSPlugin, Pair, RoutedModel

from .contract import (
    SIZE,
    Painter,
    Seer,
    Watch,
    build,
    every_kind,
    network,
    new_classes,
    replay_kinds,
    stream_accuracy,
)

CALLBACKS = [
    *("before_training", "before_train_dataset_adaptation", "after_train_dataset_adaptation", "before_training_exp"),
    *("before_training_epoch", "before_training_iteration", "before_forward", "after_forward", "before_backward"),
    *("after_backward", "before_update", "after_update", "after_training_iteration", "after_training_epoch"),
    *("after_training_exp", "after_training", "before_eval", "before_eval_dataset_adaptation"),
    *("after_eval_dataset_adaptation", "before_eval_exp", "before_eval_iteration", "before_eval_forward"),
    *("after_eval_forward", "after_eval_iteration", "after_eval_exp", "after_eval"),
]


@every_kind
def test_every_callback_of_another_plugin_is_called(kind: str) -> None:
    called: list[str] = []

    class Recorder(SupervisedPlugin):
        pass

    for name in CALLBACKS:
        setattr(Recorder, name, lambda self, strategy, name=name, **kwargs: called.append(name))
    strategy = build(kind, plugins=[Recorder()], train_epochs=1)
    benchmark = new_classes(each=4)
    strategy.train(benchmark.train_stream[0])
    strategy.eval(benchmark.test_stream)
    assert list(dict.fromkeys(called)) == CALLBACKS


@every_kind
@pytest.mark.parametrize("task_labels", [False, True])
@pytest.mark.parametrize("mode", ["epoch", "iteration"])
def test_early_stopping_on_a_validation_stream(mode: str, task_labels: bool, kind: str) -> None:
    benchmark = benchmark_with_validation_stream(
        new_classes(classes=6, experiences=3, each=16, task_labels=task_labels), 0.25, shuffle=True, seed=0
    )
    valid = benchmark.streams["valid"]
    watch = Watch()
    stopping = EarlyStoppingPlugin(4 if mode == "epoch" else 12, "valid", "Top1_Acc_Stream", peval_mode=mode)
    strategy = build(kind, plugins=[watch, stopping], train_epochs=30, eval_every=1, peval_mode=mode)
    for number, experience in enumerate(benchmark.train_stream):
        strategy.train(experience, eval_streams=[valid[number : number + 1]])
        assert stream_accuracy(strategy, valid[number : number + 1]) >= 0.7
    assert all(epochs < 30 for epochs in watch.epochs)


@every_kind
def test_a_plugin_stops_the_training(kind: str) -> None:
    class Stop(SupervisedPlugin):
        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            if strategy.clock.train_exp_iterations == 3:
                strategy.stop_training()

    watch = Watch()
    strategy, benchmark = build(kind, plugins=[watch, Stop()]), new_classes()
    for experience in benchmark.train_stream:
        strategy.train(experience)
    assert watch.epochs == [2, 2]
    strategy.eval(benchmark.test_stream)


@every_kind
@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({}, [[1, 0.5, 0.25], [1, 0.5, 0.25]]),
        ({"reset_lr": False}, [[1, 0.5, 0.25], [0.25, 0.125, 0.0625]]),
        ({"reset_scheduler": False}, [[1, 0.5, 0.25], [1, 1, 1]]),
        ({"first_exp_only": True}, [[1, 0.5, 0.25], [1, 1, 1]]),
    ],
)
def test_milestones_of_the_learning_rate(options: dict[str, Any], rates: list[list[float]], kind: str) -> None:
    _scheduled(kind, lambda optimizer: MultiStepLR(optimizer, [2, 3], 0.5), options, rates)


@every_kind
def test_steps_of_the_learning_rate(kind: str) -> None:
    _scheduled(kind, lambda optimizer: StepLR(optimizer, 1, 0.1), {}, [[0.1, 0.01, 0.001]] * 2)


@every_kind
def test_learning_rate_that_changes_with_iterations(kind: str) -> None:
    steps = {"step_granularity": "iteration"}  # two iterations in an epoch of the first experience
    watch, benchmark = Watch(), new_classes()
    strategy = build(kind, plugins=[watch], train_epochs=3, optimizer=lambda m: SGD(m.parameters(), lr=1.0))
    strategy.plugins.insert(1, LRSchedulerPlugin(StepLR(strategy.optimizer, 1, 0.5), **steps))
    strategy.train(benchmark.train_stream[0])
    assert watch.rates == [pytest.approx([0.25, 0.0625, 0.015625])]


def _scheduled(kind: str, scheduler: Any, options: dict[str, Any], rates: list[list[float]]) -> None:
    watch, benchmark = Watch(), new_classes(each=4)
    strategy = build(kind, plugins=[watch], train_epochs=3, optimizer=lambda m: SGD(m.parameters(), lr=1.0))
    # Before the watch: the rate is read after the scheduler's step.
    strategy.plugins.insert(1, LRSchedulerPlugin(scheduler(strategy.optimizer), **options))
    for experience in benchmark.train_stream:
        strategy.train(experience)
    strategy.eval(benchmark.test_stream)
    assert watch.rates == [pytest.approx(row) for row in rates]


@every_kind
@pytest.mark.parametrize("metric", ["train_loss", "val_loss"])
def test_learning_rate_that_falls_on_a_plateau(metric: str, kind: str) -> None:
    """With a rate too small to learn anything, the loss does not fall by a tenth, and the rate does."""
    watch = Watch()
    benchmark = benchmark_with_validation_stream(new_classes(each=8), 0.25, shuffle=True, seed=0)
    optimizer = lambda model: SGD(model.parameters(), lr=1e-6)  # noqa: E731
    strategy = build(kind, plugins=[watch], train_epochs=4, eval_every=1, optimizer=optimizer)
    plateau = ReduceLROnPlateau(strategy.optimizer, factor=0.1, patience=1, threshold=0.1)
    strategy.plugins.insert(1, LRSchedulerPlugin(plateau, metric=metric))
    valid = benchmark.streams["valid"]
    for number, experience in enumerate(benchmark.train_stream):
        strategy.train(experience, eval_streams=[valid[number : number + 1]])
    for row in watch.rates:
        assert row[0] == pytest.approx(1e-6)
        assert row[-1] == pytest.approx(1e-7)


@replay_kinds
@pytest.mark.parametrize("task_labels", [False, True])
@pytest.mark.parametrize("balanced", [False, True])
def test_batches_of_replay(balanced: bool, task_labels: bool, kind: str) -> None:
    """A batch holds `batch_size` of the stream and `batch_size_mem` of the past."""
    sizes = set()

    class Sizes(SupervisedPlugin):
        def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            if strategy.clock.train_exp_counter == 2:
                past = int((strategy.mb_y < 4).sum())
                sizes.add((len(strategy.mb_y) - past, past))

    replay = {"batch_size": 4, "batch_size_mem": 6, "task_balanced_dataloader": balanced, "mem_size": 24}
    strategy = build(kind, replay=replay, plugins=[Sizes()], train_epochs=2)
    benchmark = new_classes(classes=6, experiences=3, task_labels=task_labels)
    for experience in benchmark.train_stream:
        strategy.train(experience)
    assert sizes == {(4, 6)}
    strategy.eval(benchmark.test_stream)


OTHERS = {
    "ewc": lambda: EWCPlugin(0.4),
    "online ewc": lambda: EWCPlugin(0.4, mode="online", decay_factor=0.1),
    "lwf": lambda: LwFPlugin(0.5, 2),
    "si": lambda: SynapticIntelligencePlugin(1e-4),
    "mas": lambda: MASPlugin(1e-3, 0.5),
    "agem": lambda: AGEMPlugin(8, 8),
    "gss": lambda: GSS_greedyPlugin(mem_size=16, mem_strength=2, input_size=[3, SIZE, SIZE]),
    "rwalk": lambda: RWalkPlugin(0.1, 0.9, 5),
    "gdumb": lambda: GDumbPlugin(16),
    "cope": lambda: CoPEPlugin(mem_size=16, n_classes=6, p_size=6),
    "mir": lambda: MIRPlugin(batch_size_mem=4, mem_size=16, subsample=8),
    "from scratch": lambda: FromScratchTrainingPlugin(),
    "replay": lambda: ReplayPlugin(8),
}


@replay_kinds
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("other", OTHERS)
def test_another_plugin_beside_replay(other: str, first: bool, kind: str) -> None:
    strategy, benchmark = build(kind, train_epochs=2), new_classes()
    first = first or other == "gss"  # which as the second fails beside ReplayPlugin as well
    strategy.plugins.insert(0 if first else 1, OTHERS[other]())
    for experience in benchmark.train_stream:
        strategy.train(experience)
    strategy.eval(benchmark.test_stream)


@replay_kinds
@pytest.mark.parametrize("base", [Cumulative, JointTraining])
def test_strategies_that_keep_the_data_take_replay(base: type, kind: str) -> None:
    torch.manual_seed(0)
    memory = ReplayPlugin(24) if kind == "replay" else CaptionReplayPlugin(pair=Pair(Seer(), Painter()), mem_size=24)
    net, benchmark = network(), new_classes()
    strategy = base(
        model=net,
        optimizer=Adam(net.parameters(), lr=3e-3),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=8,
        train_epochs=10,
        eval_mb_size=64,
        plugins=[memory],
        evaluator=EvaluationPlugin(),
    )
    if base is JointTraining:
        strategy.train(benchmark.train_stream)
    else:
        for experience in benchmark.train_stream:
            strategy.train(experience)
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7


def _with_clts(base: Any, model: nn.Module, plugins: list[Any], **options: Any) -> Any:
    return base(
        model=model,
        optimizer=Adam(model.parameters()),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=8,
        plugins=[CLTSPlugin(pair=Pair(Seer(), Painter()), captions_per_class=3), *plugins],
        evaluator=EvaluationPlugin(),
        **options,
    )


def _routed() -> RoutedModel:
    return RoutedModel(head=network(), router=network(12))


UNSUITED = {
    "JointTraining": lambda: _with_clts(JointTraining, _routed(), []),
    "GDumb": lambda: _with_clts(Naive, _routed(), [GDumbPlugin(16)]),
    "LwF": lambda: _with_clts(Naive, _routed(), [LwFPlugin()]),
    "LwF ": lambda: _with_clts(LwF, _routed(), [], alpha=1.0, temperature=2.0),
    "RoutedModel": lambda: _with_clts(Naive, network(), []),
}


@pytest.mark.parametrize("what", UNSUITED)
def test_clts_refuses_what_does_not_go_with_it_before_training(what: str) -> None:
    trained: list[int] = []

    class Trained(SupervisedPlugin):
        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            trained.append(1)

    def attempt() -> None:
        strategy = UNSUITED[what]()
        strategy.plugins.append(Trained())
        strategy.train(new_classes().train_stream)

    with pytest.raises((TypeError, ValueError), match=what.strip()):
        attempt()
    assert not trained
