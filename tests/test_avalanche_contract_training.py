"""However Naive with ReplayPlugin is trained, it can be trained with captions in the memory's place, and so can CLTS.

The patterns are those of Avalanche's own tests of strategies and plugins, written anew.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.models import IncrementalClassifier, MTSimpleMLP, MultiHeadClassifier, SimpleMLP, as_multitask
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import (
    SupervisedPlugin,
)
from torch import nn
from torch.optim import SGD, Adam, AdamW, RMSprop
from torchvision.transforms import Compose, ConvertImageDtype, ToTensor

from .contract import (
    SIZE,
    Watch,
    build,
    every_kind,
    learn,
    memory_of,
    new_classes,
    stream_accuracy,
    with_captions,
)


@every_kind
def test_a_stream_is_trained_at_once(kind: str) -> None:
    strategy, benchmark = build(kind), new_classes()
    strategy.train(benchmark.train_stream)
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7
    assert strategy.clock.train_exp_counter == 2


@every_kind
def test_a_list_of_experiences_is_trained_in_its_order(kind: str) -> None:
    strategy, benchmark = build(kind), new_classes()
    strategy.train([benchmark.train_stream[1], benchmark.train_stream[0]])
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7


@every_kind
def test_an_online_stream_is_trained_at_once(kind: str) -> None:
    strategy, benchmark = build(kind), new_classes()
    strategy.train(split_online_stream(benchmark.train_stream, 8, access_task_boundaries=True, seed=0), eval_streams=[])
    assert strategy.clock.train_exp_counter == 4
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7


@every_kind
def test_a_generator_of_experiences_is_trained(kind: str) -> None:
    strategy, benchmark = build(kind), new_classes()
    strategy.train((experience for experience in benchmark.train_stream), eval_streams=[])
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7


@every_kind
def test_an_experience_may_come_twice(kind: str) -> None:
    strategy, benchmark = build(kind), new_classes()
    for number in (0, 1, 0):
        strategy.train(benchmark.train_stream[number])
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7


EVAL_STREAMS = {
    "none given": lambda b: None,
    "none wanted": lambda b: [],
    "a stream": lambda b: [b.test_stream],
    "part of a stream": lambda b: [b.test_stream[:1]],
    "experiences": lambda b: [b.test_stream[0], b.test_stream[1]],
    "experiences in a list": lambda b: [[b.test_stream[0]], [b.test_stream[1]]],
    "two streams": lambda b: [b.test_stream, b.train_stream],
    "the stream itself": lambda b: list(b.test_stream),
}


@every_kind
@pytest.mark.parametrize("form", EVAL_STREAMS)
def test_streams_to_evaluate_on_while_training(form: str, kind: str) -> None:
    benchmark = new_classes()
    watch = Watch()
    strategy = build(kind, plugins=[watch], eval_every=1, train_epochs=2)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=EVAL_STREAMS[form](benchmark))
    streams = {"none wanted": 0, "two streams": 2}.get(form, 1)
    assert watch.evaluations in _evaluations(kind, 2 * 3 * streams, 2 * streams)


@every_kind
@pytest.mark.parametrize(
    ("options", "evaluations"),
    [
        ({"eval_every": -1}, 0),
        ({"eval_every": 0}, 2),
        ({"eval_every": 1}, 5),
        ({"eval_every": 2}, 4),
        ({"eval_every": 3, "peval_mode": "iteration"}, 5),
    ],
)
def test_periodic_evaluation(options: dict[str, Any], evaluations: int, kind: str) -> None:
    watch = Watch()
    strategy = build(kind, plugins=[watch], train_epochs=4, **options)
    strategy.train(new_classes().train_stream[0])  # two batches an epoch
    assert watch.evaluations in _evaluations(kind, evaluations, int(evaluations > 0))


def _evaluations(kind: str, count: int, once_more: int) -> range:
    """CLTS may evaluate once more at the end of an experience: its router is trained after the last epoch."""
    return range(count, count + once_more + 1 if kind == "clts" else count + 1)


@every_kind
def test_what_train_returns_is_what_eval_measures(kind: str) -> None:
    benchmark = new_classes()
    strategy = build(kind, eval_every=0)
    key = "Top1_Acc_Stream/eval_phase/test_stream"
    for experience in benchmark.train_stream:
        trained = strategy.train(experience, eval_streams=[benchmark.test_stream])
        evaluated = strategy.eval(benchmark.test_stream)
        assert [v for k, v in trained.items() if k.startswith(key)] == [
            v for k, v in evaluated.items() if k.startswith(key)
        ]


OPTIMIZERS = {
    "sgd": lambda model: SGD(model.parameters(), lr=0.05),
    "momentum": lambda model: SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-4),
    "adam": lambda model: Adam(model.parameters(), lr=3e-3, amsgrad=True),
    "adamw": lambda model: AdamW(model.parameters(), lr=3e-3),
    "rmsprop": lambda model: RMSprop(model.parameters(), lr=1e-3),
}


@every_kind
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizer(optimizer: str, kind: str) -> None:
    assert learn(build(kind, optimizer=OPTIMIZERS[optimizer]), new_classes()) >= 0.7


def weights_and_biases(model: nn.Module) -> torch.optim.Optimizer:
    named = list(model.named_parameters())
    weights, biases = [p for n, p in named if "weight" in n], [p for n, p in named if "bias" in n]
    return Adam([{"params": weights, "weight_decay": 1e-3}, {"params": biases, "lr": 1e-3}], lr=3e-3)


@every_kind
def test_optimizer_with_parameter_groups_keeps_them(kind: str) -> None:
    strategy, benchmark = build(kind, optimizer=weights_and_biases), new_classes()
    assert learn(strategy, benchmark) >= 0.7
    weights, biases = strategy.optimizer.param_groups
    assert (weights["weight_decay"], weights["lr"]) == (1e-3, 3e-3)
    assert (biases["weight_decay"], biases["lr"]) == (0, 1e-3)
    trained = {id(p) for p in strategy.model.parameters() if p.requires_grad}
    assert {id(p) for p in weights["params"] if p.ndim == 2} & trained
    assert all(p.ndim == 1 for p in biases["params"])
    assert all(p.ndim == 2 for p in weights["params"])


@every_kind
def test_optimizer_whose_state_is_reset(kind: str) -> None:
    strategy, benchmark = build(kind), new_classes()
    for experience in benchmark.train_stream:
        strategy.train(experience, reset_optimizer_state=True)
        steps = {int(state["step"]) for state in strategy.optimizer.state.values() if "step" in state}
        assert max(steps) <= strategy.clock.train_exp_iterations
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7


def mlp(classifier: str) -> nn.Module:
    inputs = 3 * SIZE**2
    if classifier == "multi-task":
        return MTSimpleMLP(input_size=inputs, hidden_size=16)
    model = SimpleMLP(num_classes=6, input_size=inputs, hidden_size=16, drop_rate=0.0)
    if classifier == "made multi-task":
        return as_multitask(model, "classifier")
    if classifier == "incremental":
        model.classifier = IncrementalClassifier(16, initial_out_features=1)
    if classifier == "multi-head":
        model.classifier = MultiHeadClassifier(16, initial_out_features=1)
    return model


@every_kind
@pytest.mark.parametrize("numbering", ["over all", "within each task"])
@pytest.mark.parametrize("classifier", ["multi-task", "made multi-task"])
def test_a_head_for_each_task_label(classifier: str, numbering: str, kind: str) -> None:
    benchmark = new_classes(task_labels=True, class_ids_from_zero_in_each_exp=numbering == "within each task")
    strategy = build(kind, head=mlp(classifier))
    assert learn(strategy, benchmark) >= 0.7


@every_kind
@pytest.mark.parametrize("task_labels", [False, True])
def test_outputs_that_grow_with_the_classes(task_labels: bool, kind: str) -> None:
    benchmark = new_classes(task_labels=task_labels)
    strategy = build(kind, head=mlp("incremental"))
    for experience in benchmark.train_stream:
        strategy.train(experience)
        strategy.eval(benchmark.test_stream)  # holds classes to come
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7


@every_kind
def test_outputs_that_grow_are_evaluated_before_any_training(kind: str) -> None:
    benchmark = new_classes()
    strategy = build(kind, head=mlp("incremental"), eval_every=0)
    strategy.eval(benchmark.test_stream)
    strategy.train(benchmark.train_stream[0], eval_streams=[benchmark.test_stream])
    strategy.train(benchmark.train_stream[1], eval_streams=[benchmark.test_stream])
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7


LOADING = {
    "a worker": {"num_workers": 1},
    "a worker that stays": {"num_workers": 1, "persistent_workers": True},
    "in order": {"shuffle": False},
    "without the rest": {"drop_last": True},
    "not pinned": {"pin_memory": False},
}


@every_kind
@pytest.mark.parametrize("options", LOADING)
def test_options_of_the_data_loader(options: str, kind: str) -> None:
    strategy, benchmark = build(kind, train_epochs=3), new_classes(each=6)
    for experience in benchmark.train_stream:
        strategy.train(experience, **LOADING[options])
    strategy.eval(benchmark.test_stream, **{k: v for k, v in LOADING[options].items() if "worker" in k})


@every_kind
def test_bfloat16_by_autocast(kind: str) -> None:
    strategy, benchmark = build(kind), new_classes()
    # Without the cache, which knows nothing of the optimizer's steps.
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        for experience in benchmark.train_stream:
            strategy.train(experience)
        assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7
    assert all(p.dtype == torch.float32 for p in strategy.model.parameters())


@every_kind
def test_autocast_around_evaluation_only(kind: str) -> None:
    strategy, benchmark = build(kind), new_classes()
    learn(strategy, benchmark)
    with torch.autocast("cpu", torch.bfloat16):
        assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7


@every_kind
def test_double_precision(kind: str) -> None:
    double = Compose([ToTensor(), ConvertImageDtype(torch.float64)])
    benchmark = new_classes(train_transform=double, eval_transform=double)
    strategy = build(kind)
    strategy.model.double()
    assert learn(strategy, benchmark) >= 0.7
    assert all(p.dtype == torch.float64 for p in strategy.model.parameters())


class Margin(SupervisedPlugin):
    """A criterion that is a plugin too."""

    def __init__(self) -> None:
        super().__init__()
        self.experiences = 0

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nn.functional.multi_margin_loss(output, target)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.experiences += 1


CRITERIA = {
    "smoothed": lambda: nn.CrossEntropyLoss(label_smoothing=0.1),
    "function": lambda: nn.functional.cross_entropy,
    "plugin": Margin,
}


@every_kind
@pytest.mark.parametrize("criterion", CRITERIA)
def test_criterion(criterion: str, kind: str) -> None:
    assert learn(build(kind, criterion=CRITERIA[criterion]()), new_classes()) >= 0.7


@every_kind
def test_hooks_on_the_model_are_called(kind: str) -> None:
    strategy, benchmark = build(kind), new_classes()
    called = []
    strategy.model.register_forward_hook(lambda *_: called.append(1))
    strategy.train(benchmark.train_stream[0])
    trained = len(called)
    strategy.eval(benchmark.test_stream)
    assert 0 < trained < len(called)


@every_kind
def test_random_seeds_decide_everything(kind: str) -> None:
    def run() -> dict[str, torch.Tensor]:
        RNGManager.set_random_seeds(1234)
        strategy = build(kind, train_epochs=2)
        RNGManager.set_random_seeds(1234)
        learn(strategy, new_classes())
        return strategy.model.state_dict()

    first, second = run(), run()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_kind
def test_a_copy_of_the_model_answers_as_the_model(kind: str) -> None:
    strategy, benchmark = build(kind), new_classes()
    learn(strategy, benchmark)
    x = torch.stack([x for x, *_ in benchmark.test_stream[0].dataset])
    twin = copy.deepcopy(strategy.model.eval()).eval()
    assert torch.equal(strategy.model(x), twin(x))


@with_captions
def test_after_training_no_image_is_left(kind: str) -> None:
    strategy = build(kind)
    strategy.train(new_classes().train_stream)
    assert len(memory_of(strategy).memory) > 0
    assert not memory_of(strategy).regenerated
