"""Whatever is measured and logged of Naive with ReplayPlugin can be measured and logged with captions in its place.

The patterns are those of Avalanche's own tests of metrics, loggers and checkpoints, written anew.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.evaluation import metrics as m
from avalanche.logging import CSVLogger, InteractiveLogger, TensorboardLogger, TextLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.plugins.evaluation import default_evaluator
from torch import Tensor

from .contract import build, every_kind, new_classes, stream_accuracy

everywhere = {"minibatch": True, "epoch": True, "experience": True, "stream": True}

# What each family must have emitted after two experiences, each followed by an evaluation of the test stream.
FAMILIES: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "accuracy": (
        lambda: m.accuracy_metrics(**everywhere, epoch_running=True, trained_experience=True),
        [
            "Top1_Acc_MB",
            "Top1_RunningAcc_Epoch",
            "Top1_Acc_Epoch",
            "Top1_Acc_Exp",
            "Top1_Acc_Stream",
            "Accuracy_On_Trai",
        ],
    ),
    "loss": (
        lambda: m.loss_metrics(**everywhere, epoch_running=True),
        ["Loss_MB", "RunningLoss_Epoch", "Loss_Epoch", "Loss_Exp", "Loss_Stream"],
    ),
    "class accuracy": (
        lambda: m.class_accuracy_metrics(**everywhere, epoch_running=True, classes=range(4)),
        ["Top1_ClassAcc_Epoch", "Top1_ClassAcc_Exp", "Top1_ClassAcc_Stream"],
    ),
    "class accuracy of classes as they come": (
        lambda: m.class_accuracy_metrics(experience=True, stream=True),
        ["Top1_ClassAcc_Exp", "Top1_ClassAcc_Stream"],
    ),
    "top 2 accuracy": (
        lambda: m.topk_acc_metrics(top_k=2, **everywhere, epoch_running=True, trained_experience=True),
        ["Topk_2_Acc_Epoch", "Topk_2_Acc_Exp", "Topk_2_Acc_Stream"],
    ),
    "forgetting": (
        lambda: m.forgetting_metrics(experience=True, stream=True),
        ["ExperienceForgetting", "StreamForgetting"],
    ),
    "backward transfer": (lambda: m.bwt_metrics(experience=True, stream=True), ["ExperienceBWT", "StreamBWT"]),
    "forward transfer": (
        lambda: m.forward_transfer_metrics(experience=True, stream=True),
        ["ExperienceForwardTransfer", "StreamForwardTransfer"],
    ),
    "confusion matrix": (
        lambda: m.confusion_matrix_metrics(num_classes=6, stream=True, save_image=False),
        ["ConfusionMatrix_Stream"],
    ),
    "confusion matrix of classes as they come": (
        lambda: m.confusion_matrix_metrics(stream=True, save_image=True, normalize="all"),
        ["ConfusionMatrix_Stream"],
    ),
    "accuracy matrix": (lambda: m.accuracy_matrix_metrics(), ["EvalStream"]),
    "amca": (lambda: m.amca_metrics(), ["Top1_AMCA_Stream"]),
    "timing": (
        lambda: m.timing_metrics(**everywhere, epoch_running=True),
        ["Time_MB", "Time_Epoch", "RunningTime_Epoch", "Time_Exp", "Time_Stream"],
    ),
    "cpu": (
        lambda: m.cpu_usage_metrics(**everywhere, epoch_running=True),
        ["CPUUsage_MB", "CPUUsage_Epoch", "CPUUsage_Exp", "CPUUsage_Stream"],
    ),
    "ram": (
        lambda: m.ram_usage_metrics(every=0.05, **everywhere),
        ["MaxRAMUsage_MB", "MaxRAMUsage_Epoch", "MaxRAMUsage_Exp", "MaxRAMUsage_Stream"],
    ),
    "disk": (
        lambda: m.disk_usage_metrics(**everywhere),
        ["DiskUsage_MB", "DiskUsage_Epoch", "DiskUsage_Exp", "DiskUsage_Stream"],
    ),
    "mac": (lambda: m.MAC_metrics(minibatch=True, epoch=True, experience=True), ["MAC_MB", "MAC_Epoch", "MAC_Exp"]),
    "images": (
        lambda: m.images_samples_metrics(n_rows=2, n_cols=2, on_train=True, on_eval=True),
        ["images"],
    ),
    "images one by one": (
        lambda: m.images_samples_metrics(n_rows=2, n_cols=2, group=False, on_train=True, on_eval=True),
        ["images"],
    ),
    "labels": (
        lambda: m.labels_repartition_metrics(on_train=True, on_eval=True, emit_train_at="epoch", image_creator=None),
        ["Repartition"],
    ),
    "mean scores": (
        lambda: m.mean_scores_metrics(on_train=True, on_eval=True, image_creator=None),
        ["MeanScores"],
    ),
    "weights": (lambda: m.WeightCheckpoint(), ["WeightCheckpoint"]),
}


def run(kind: str, evaluator: EvaluationPlugin, benchmark: Any = None, **options: Any) -> Any:
    benchmark = benchmark or new_classes(each=4)
    strategy = build(kind, evaluator=evaluator, **{"train_epochs": 2, **options})
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[benchmark.test_stream])
        strategy.eval(benchmark.test_stream)
    return strategy


@every_kind
@pytest.mark.parametrize("task_labels", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_metrics_are_emitted(family: str, task_labels: bool, kind: str) -> None:
    make, names = FAMILIES[family]
    benchmark = new_classes(each=4, task_labels=task_labels)
    # Forward transfer asks for an evaluation before each experience; the accuracy matrix cannot take one.
    strategy = run(kind, EvaluationPlugin(make()), benchmark, eval_every=0 if family == "forward transfer" else -1)
    emitted = strategy.evaluator.get_last_metrics()
    for name in names:
        values = [value for key, value in emitted.items() if key.startswith(name)]
        assert values, f"{name} is not among {sorted({key.split('/')[0] for key in emitted})}"
        assert all(math.isfinite(value) for value in values if isinstance(value, float))


@every_kind
def test_metrics_of_the_last_evaluation_are_what_the_model_answers(kind: str) -> None:
    evaluator = EvaluationPlugin(
        m.accuracy_metrics(experience=True, stream=True),
        m.confusion_matrix_metrics(num_classes=4, stream=True, save_image=False),
        m.forgetting_metrics(experience=True),
        m.bwt_metrics(experience=True),
    )
    benchmark = new_classes()
    strategy = run(kind, evaluator, benchmark, train_epochs=10)
    last = strategy.evaluator.get_last_metrics()
    accuracy = stream_accuracy(strategy, benchmark.test_stream)
    by_experience = [stream_accuracy(strategy, benchmark.test_stream[i : i + 1]) for i in range(2)]
    assert last["Top1_Acc_Stream/eval_phase/test_stream/Task000"] == pytest.approx(accuracy)
    for i in range(2):
        assert last[f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp00{i}"] == pytest.approx(by_experience[i])
    matrix = last["ConfusionMatrix_Stream/eval_phase/test_stream"]
    matrix = matrix if isinstance(matrix, Tensor) else torch.as_tensor(matrix)
    assert matrix.sum() == 16
    assert matrix.diagonal().sum() == pytest.approx(16 * accuracy)
    forgetting = last["ExperienceForgetting/eval_phase/test_stream/Task000/Exp000"]
    assert last["ExperienceBWT/eval_phase/test_stream/Task000/Exp000"] == pytest.approx(-forgetting)


@every_kind
def test_loss_of_an_untrained_and_of_a_trained_model_is_finite(kind: str) -> None:
    evaluator = EvaluationPlugin(m.loss_metrics(epoch=True, experience=True, stream=True))
    strategy = run(kind, evaluator, eval_every=1)
    for xs, values in strategy.evaluator.get_all_metrics().values():
        assert len(xs) == len(values)
        assert all(math.isfinite(float(value)) for value in values)


@every_kind
def test_curves_are_collected_where_asked_for(kind: str) -> None:
    strategy = run(kind, EvaluationPlugin(m.accuracy_metrics(stream=True), collect_all=True))
    steps, values = strategy.evaluator.get_all_metrics()["Top1_Acc_Stream/eval_phase/test_stream/Task000"]
    assert len(steps) == len(values) == 2
    assert steps == sorted(steps)
    strategy = run(kind, EvaluationPlugin(m.accuracy_metrics(stream=True), collect_all=False))
    assert strategy.evaluator.get_all_metrics() == {}
    assert "Top1_Acc_Stream/eval_phase/test_stream/Task000" in strategy.evaluator.get_last_metrics()


@every_kind
def test_strict_checks_refuse_a_part_of_a_stream(kind: str) -> None:
    benchmark = new_classes(each=4)
    strategy = run(kind, EvaluationPlugin(m.accuracy_metrics(stream=True), strict_checks=True), benchmark)
    with pytest.raises(ValueError, match="tream"):
        strategy.eval(benchmark.test_stream[:1])


@every_kind
def test_strict_checks_pass_periodic_evaluation_of_the_whole_stream(kind: str) -> None:
    benchmark = new_classes(each=4)
    evaluator = EvaluationPlugin(m.accuracy_metrics(stream=True), strict_checks=True)
    strategy = build(kind, evaluator=evaluator, eval_every=0, train_epochs=1)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[benchmark.test_stream])
        strategy.eval(benchmark.test_stream)


@every_kind
def test_no_evaluator(kind: str) -> None:
    strategy = run(kind, None)
    assert strategy.evaluator.get_last_metrics() == {}


@every_kind
def test_evaluator_made_by_a_function(kind: str) -> None:
    strategy = run(kind, lambda: EvaluationPlugin(m.accuracy_metrics(stream=True)))
    assert "Top1_Acc_Stream/eval_phase/test_stream/Task000" in strategy.evaluator.get_last_metrics()


@every_kind
def test_default_evaluator(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(kind, default_evaluator)
    assert "Top1_Acc_Stream/eval_phase/test_stream/Task000" in capsys.readouterr().out


def _evaluator(loggers: Any) -> EvaluationPlugin:
    families = [m.accuracy_metrics(**everywhere), m.loss_metrics(**everywhere), m.forgetting_metrics(experience=True)]
    return EvaluationPlugin(*families, loggers=loggers)


@every_kind
def test_interactive_logger(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(kind, _evaluator([InteractiveLogger()]), eval_every=1)
    assert "Top1_Acc_Stream/eval_phase/test_stream/Task000" in capsys.readouterr().out


@every_kind
def test_text_logger(kind: str) -> None:
    text = io.StringIO()
    run(kind, _evaluator([TextLogger(text)]), eval_every=1)
    assert "Top1_Acc_Stream/eval_phase/test_stream/Task000" in text.getvalue()


@every_kind
def test_csv_logger(kind: str, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    run(kind, _evaluator([logger]), eval_every=1)
    logger.close()
    for name in ("training_results.csv", "eval_results.csv"):
        rows = (tmp_path / name).read_text().splitlines()
        assert len(rows) > 4
        assert {len(row.split(",")) for row in rows} == {len(rows[0].split(","))}


@every_kind
def test_tensorboard_logger(kind: str, tmp_path: Path) -> None:
    families = [m.accuracy_metrics(**everywhere), m.confusion_matrix_metrics(stream=True, save_image=True)]
    families += [m.images_samples_metrics(n_rows=2, n_cols=2), m.WeightCheckpoint()]
    run(kind, EvaluationPlugin(*families, loggers=[TensorboardLogger(tmp_path)]))
    assert list(tmp_path.glob("events*"))


@every_kind
def test_test_streams_that_are_not_divided_like_the_training_stream(kind: str) -> None:
    evaluator = EvaluationPlugin(m.accuracy_metrics(experience=True, stream=True), m.loss_metrics(stream=True))
    benchmark = new_classes()
    strategy = build(kind, evaluator=evaluator)
    for experience in benchmark.train_stream:
        strategy.train(experience)
    whole = new_classes(experiences=1)
    assert stream_accuracy(strategy, whole.test_stream) >= 0.7
    assert stream_accuracy(strategy, whole.train_stream) >= 0.7
    assert stream_accuracy(strategy, [benchmark.test_stream[1], benchmark.test_stream[0]]) >= 0.7
    strategy.eval(benchmark.test_stream[0])
