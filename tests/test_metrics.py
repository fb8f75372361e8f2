"""Metrics mean what they say."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, nc_benchmark
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metric_results import TensorImage
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin
from avalanche.training.supervised import EWC, Naive
from torch import nn
from torch.utils.data import TensorDataset

from avalanche_clts import CaptionReplayPlugin, Pair, clts_metrics, split_digits
from avalanche_clts.footprint import caption_buffers, memory_bytes, module_nbytes
from avalanche_clts.metrics import TextTensorboardLogger, right_heads
from tests.conftest import make_clts, small_net


@pytest.fixture
def benchmark():
    return split_digits(5, fixed_class_order=range(10))


def test_oracle_and_router_accuracy_explain_hard_accuracy(tiny_pair: Pair, benchmark) -> None:
    evaluator = EvaluationPlugin(accuracy_metrics(experience=True, stream=True), clts_metrics())
    clts = make_clts(tiny_pair, train_epochs=12, routing="hard", evaluator=evaluator)
    for experience in benchmark.train_stream:
        clts.train(experience)
    metrics = clts.eval(benchmark.test_stream)
    clts.model.eval()
    right = correct = total = 0
    for t, experience in enumerate(benchmark.test_stream):
        for x, y, _ in experience.dataset:
            probabilities = clts.model.route(x[None])
            right += int(probabilities.argmax() == t)
            logits = clts.model.heads[t](x[None])[0, [2 * t, 2 * t + 1]]
            correct += int(logits.argmax() == y - 2 * t)
            total += 1
    suffix = "/eval_phase/test_stream/Task000"
    assert metrics[f"RouterAccuracy_Stream{suffix}"] == pytest.approx(right / total)
    assert metrics[f"OracleAccuracy_Stream{suffix}"] == pytest.approx(correct / total)
    assert metrics[f"Top1_Acc_Stream{suffix}"] <= metrics[f"RouterAccuracy_Stream{suffix}"] + 1e-6
    assert f"RouterAccuracy_Exp{suffix}/Exp003" in metrics


def test_experiences_not_yet_seen_do_not_count(tiny_pair: Pair, benchmark) -> None:
    clts = make_clts(tiny_pair, evaluator=EvaluationPlugin(clts_metrics()))
    clts.train(benchmark.train_stream[0])
    metrics = clts.eval(benchmark.test_stream)
    assert metrics["RouterAccuracy_Stream/eval_phase/test_stream/Task000"] == 1.0
    assert not any(name.endswith("Exp001") for name in metrics)


def test_memory_is_counted_by_kind(tiny_pair: Pair, benchmark) -> None:
    clts = make_clts(tiny_pair, evaluator=EvaluationPlugin(clts_metrics()))
    for experience in benchmark.train_stream[:2]:
        metrics = clts.train(experience)
    head = module_nbytes(small_net())
    router = clts.model.router
    expected = {
        "captions": len(clts.plugins[0].storage_policy.memory.to_bytes()),
        "exemplars": 0,
        "heads": 2 * head,
        "router": module_nbytes(small_net(16)) + 4 * (16 * 4 + 4),  # a unit for each of four classes
        "network": 0,
    }
    assert memory_bytes(clts) == expected
    assert module_nbytes(router) == expected["router"]
    for kind, count in expected.items():
        assert metrics[f"MemoryBytes/train_phase/train_stream/Task000/{kind}"] == count
    if sys.platform != "linux":
        return
    in_use = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert 0.5 * in_use < metrics["PeakMemory/train_phase/train_stream/Task000/process"]


def test_exemplars_count_as_raw_native_pixels(benchmark) -> None:
    network = small_net()
    naive = Naive(
        model=network,
        optimizer=torch.optim.Adam(network.parameters()),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=30,
        plugins=[ReplayPlugin(mem_size=50)],
        evaluator=EvaluationPlugin(clts_metrics()),
    )
    metrics = naive.train(benchmark.train_stream[0])
    prefix = "MemoryBytes/train_phase/train_stream/Task000"
    assert metrics[f"{prefix}/exemplars"] == 50 * 64
    assert metrics[f"{prefix}/network"] == module_nbytes(network)
    assert not any(name.startswith(("Router", "Oracle", "Regenerated", "Seconds")) for name in metrics)


def test_heads_that_know_the_class_are_right_where_one_test_set_serves_all(tiny_pair: Pair, benchmark) -> None:
    clts = make_clts(tiny_pair)
    for index in (0, 1, 0):
        clts.train(benchmark.train_stream[index])
    whole = split_digits(1, fixed_class_order=range(10)).test_stream[0]
    expected = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
    train_stream = benchmark.train_stream

    class OneTestSet:
        current_experience = 0
        origin_stream = type("Stream", (list,), {"benchmark": type("B", (), {"train_stream": train_stream})})([whole])

    assert torch.equal(right_heads(clts.model, OneTestSet, torch.tensor([1, 2, 9])), expected)
    assert right_heads(clts.model, benchmark.test_stream[1], torch.tensor([2])).tolist() == [[False, True, False]]


def test_right_heads_do_not_depend_on_how_a_test_stream_was_made(tiny_pair: Pair, benchmark) -> None:
    """Nor on how much of it is evaluated. Each domain has all classes: every head knows them, and one is right."""
    train, test = (stream[0].dataset for stream in (split_digits(1).train_stream, split_digits(1).test_stream))
    domains = benchmark_from_datasets(train=[train, train], test=[test, test])
    clts = make_clts(tiny_pair, train_epochs=1)
    for experience in domains.train_stream:
        clts.train(experience)
    third = torch.tensor([3])
    for number, expected in enumerate(([True, False], [False, True])):
        for stream in (domains.test_stream, domains.test_stream[: number + 1]):
            assert right_heads(clts.model, stream[number], third).tolist() == [expected]
    at_once = benchmark_from_datasets(train=[train, train], test=[test]).test_stream[0]
    assert right_heads(clts.model, at_once, third).tolist() == [[True, True]]
    clts = make_clts(tiny_pair, train_epochs=1)
    for experience in benchmark.train_stream[:3]:
        clts.train(experience)
    for part in (benchmark.test_stream, benchmark.test_stream[:2], benchmark.test_stream[1:2]):
        found = next(e for e in part if e.current_experience == 1)
        assert right_heads(clts.model, found, third).tolist() == [[False, True, False]]


def test_what_regularisation_keeps_of_the_network_counts(benchmark) -> None:
    network = small_net()
    ewc = EWC(
        model=network,
        optimizer=torch.optim.Adam(network.parameters()),
        criterion=nn.CrossEntropyLoss(),
        ewc_lambda=1.0,
        train_mb_size=30,
        evaluator=EvaluationPlugin(),
    )
    for experience in benchmark.train_stream[:2]:
        ewc.train(experience)
    parameters = sum(p.numel() * 4 for p in network.parameters())
    # Two experiences, each with the parameters and their importances.
    assert memory_bytes(ewc)["network"] == module_nbytes(network) + 4 * parameters


def test_streams_that_are_not_images_have_no_exemplar_bytes_and_no_error() -> None:
    x, y = torch.randn(40, 12), torch.arange(40) % 4
    data = TensorDataset(x, y)
    data.targets = y.tolist()
    network = nn.Linear(12, 4)
    naive = Naive(
        model=network,
        optimizer=torch.optim.Adam(network.parameters()),
        criterion=nn.CrossEntropyLoss(),
        evaluator=EvaluationPlugin(clts_metrics()),
    )
    metrics = naive.train(nc_benchmark(data, data, 2, task_labels=False).train_stream[0])
    assert metrics["MemoryBytes/train_phase/train_stream/Task000/exemplars"] == 0


def test_seconds_and_samples_are_emitted(tiny_pair: Pair, benchmark) -> None:
    clts = make_clts(tiny_pair, evaluator=EvaluationPlugin(clts_metrics()))
    clts.train(benchmark.train_stream[0])
    metrics = clts.train(benchmark.train_stream[1])
    prefix = "train_phase/train_stream/Task000"
    for kind in ("captioning", "generation", "router"):
        assert metrics[f"Seconds/{prefix}/{kind}"] > 0
    grid = metrics[f"RegeneratedImages/{prefix}/grid"]
    assert isinstance(grid, TensorImage)
    assert grid.image.shape[0] == 3
    assert grid.image.std() > 0


def test_tensorboard_gets_scalars_images_and_captions(tiny_pair: Pair, benchmark, tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    evaluator = EvaluationPlugin(clts_metrics(captions=True), loggers=[TextTensorboardLogger(tmp_path)])
    clts = make_clts(tiny_pair, evaluator=evaluator)
    for experience in benchmark.train_stream[:2]:
        clts.train(experience)
        clts.eval(benchmark.test_stream)
    evaluator.loggers[0].writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    tags = events.Tags()
    assert "RouterAccuracy_Stream/eval_phase/test_stream/Task000" in tags["scalars"]
    assert "MemoryBytes/train_phase/train_stream/Task000/captions" in tags["scalars"]
    assert "RegeneratedImages/train_phase/train_stream/Task000/grid" in tags["images"]
    (text,) = [tag for tag in tags["tensors"] if tag.startswith("Captions")]
    logged = events.Tensors(text)[-1].tensor_proto.string_val[0].decode()
    assert clts.plugins[0].storage_policy.memory.captions[-1].text in logged


def test_routing_metrics_cost_no_further_pass(tiny_pair: Pair, benchmark) -> None:
    """Router and heads run once a batch, whatever is measured of them."""
    evaluator = EvaluationPlugin(accuracy_metrics(stream=True), clts_metrics())
    clts = make_clts(tiny_pair, evaluator=evaluator)
    for experience in benchmark.train_stream[:3]:
        clts.train(experience)
    calls: list[nn.Module] = []
    for module in [clts.model.router.backbone, *clts.model.heads]:
        module.register_forward_hook(lambda module, *_: calls.append(module))
    clts.eval(benchmark.test_stream)
    batches = sum(-(-len(experience.dataset) // 256) for experience in benchmark.test_stream)
    assert calls.count(clts.model.router.backbone) == batches
    assert [calls.count(head) for head in clts.model.heads] == [batches] * 3


def test_figures_during_training_are_of_the_head_alone(tiny_pair: Pair, benchmark) -> None:
    seen: dict[int, list[float]] = {}

    class Watch(SupervisedPlugin):
        def after_eval(self, strategy, **kwargs):
            metrics = strategy.evaluator.get_last_metrics()
            name = f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{self.number:03d}"
            seen.setdefault(self.number, []).append(metrics[name])

    watch = Watch()
    evaluator = EvaluationPlugin(accuracy_metrics(experience=True, stream=True))
    clts = make_clts(tiny_pair, plugins=[watch], evaluator=evaluator, train_epochs=12, eval_every=1)
    clts.plugins.append(clts.plugins.pop(1))  # after the evaluator
    for watch.number, experience in enumerate(benchmark.train_stream[:3]):
        clts.train(experience, eval_streams=[benchmark.test_stream[watch.number : watch.number + 1]])
    for accuracies in seen.values():
        assert max(accuracies[1:]) > 0.9, "what its head can do, the router knows it or not"


def test_memory_of_several_captions_is_counted_together(tiny_pair: Pair, benchmark) -> None:
    clts = make_clts(tiny_pair, plugins=[CaptionReplayPlugin(pair=tiny_pair, mem_size=8)])
    clts.train(benchmark.train_stream[0])
    both = [buffer.memory.nbytes for buffer in caption_buffers(clts)]
    assert len(both) == 2
    assert memory_bytes(clts)["captions"] == sum(both) > max(both)


def test_interrupted_training_leaves_no_head_asked_alone(tiny_pair: Pair, benchmark) -> None:
    class Stop(SupervisedPlugin):
        def before_backward(self, strategy, **kwargs):
            if strategy.experience.current_experience == 2 and strategy.clock.train_exp_iterations == 1:
                raise KeyboardInterrupt

    clts = make_clts(tiny_pair, plugins=[Stop()], evaluator=EvaluationPlugin(accuracy_metrics(experience=True)))
    for experience in benchmark.train_stream[:2]:
        clts.train(experience)
    with pytest.raises(KeyboardInterrupt):
        clts.train(benchmark.train_stream[2])
    clts.eval([benchmark.test_stream[2]])
    assert clts.model.asked_alone is None
    x = benchmark.test_stream[2].dataset[0][0][None]
    assert clts.model.eval().route(x)[0, 2] == pytest.approx(1 / 3)
