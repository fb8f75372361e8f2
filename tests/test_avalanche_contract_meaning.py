"""What must come out, where going through is not enough: right heads, right names, right formats, right moments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    benchmark_with_validation_stream,
    split_online_stream,
)
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EarlyStoppingPlugin, EvaluationPlugin, SupervisedPlugin
from torch import nn

from avalanche_clts import CaptionBuffer, Pair

from .contract import (
    NAMES,
    SIZE,
    Painter,
    avalanche_squares,
    build,
    every_kind,
    memory_of,
    nearest_colour,
    network,
    new_classes,
    square,
    stream_accuracy,
    with_captions,
)
from .test_avalanche_contract import STREAMS

CURRENT = "Top1_Acc_Exp/eval_phase/{}_stream/Task000/Exp{:03d}"


class Iterations(SupervisedPlugin):
    """Counts training iterations."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.count += 1


# Evaluation while training. The third experience is the first that finds a router which knows others and not it.


def three_experiences(each: int = 8) -> Any:
    return new_classes(classes=6, experiences=3, each=each)


@every_kind
def test_accuracy_in_training_is_what_the_head_can_do(kind: str) -> None:
    benchmark = three_experiences()
    strategy = build(kind, eval_every=1, train_epochs=15)
    for number, experience in enumerate(benchmark.train_stream):
        strategy.train(experience, eval_streams=[benchmark.test_stream[number : number + 1]])
        curve = strategy.evaluator.get_all_metrics()[CURRENT.format("test", number)][1]
        assert max(curve[:-1]) >= 0.9, "already before the experience ends"


@every_kind
@pytest.mark.parametrize("mode", ["epoch", "iteration"])
def test_early_stopping_leaves_no_head_untrained(mode: str, kind: str) -> None:
    benchmark = benchmark_with_validation_stream(three_experiences(each=16), 0.25, shuffle=True, seed=0)
    valid = benchmark.streams["valid"]
    stopping = EarlyStoppingPlugin(4 if mode == "epoch" else 12, "valid", peval_mode=mode)
    strategy = build(kind, plugins=[stopping], train_epochs=30, eval_every=1, peval_mode=mode)
    for number, experience in enumerate(benchmark.train_stream):
        strategy.train(experience, eval_streams=[valid[number : number + 1]])
        assert stream_accuracy(strategy, valid[number : number + 1]) >= 0.9
    if kind == "clts":  # its heads do not forget
        assert stream_accuracy(strategy, benchmark.test_stream) >= 0.9


@every_kind
@pytest.mark.parametrize("every", [0, 1, 2, 3])
def test_train_returns_what_eval_says(every: int, kind: str) -> None:
    benchmark = three_experiences()
    strategy = build(kind, eval_every=every, train_epochs=4)
    key = "Top1_Acc_Stream/eval_phase/test_stream/Task000"
    for number, experience in enumerate(benchmark.train_stream):
        seen = benchmark.test_stream[: number + 1]
        returned = strategy.train(experience, eval_streams=[seen])[key]
        assert returned == pytest.approx(strategy.eval(seen)[key])


def test_plugins_that_follow_find_the_router_trained() -> None:
    accuracies = []
    benchmark = three_experiences()

    class Measure(SupervisedPlugin):
        def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            with torch.no_grad():
                x = torch.stack([x for x, *_ in benchmark.test_stream[0].dataset])
                accuracies.append(float((strategy.model.eval()(x).argmax(1) < 2).float().mean()))
                strategy.model.train()

    strategy = build("clts", plugins=[Measure()])
    for experience in benchmark.train_stream:
        strategy.train(experience)
    assert accuracies[-1] >= 0.9


# Task labels and boundaries


@pytest.mark.parametrize(
    "stream",
    [
        "of_new_classes_with_task_labels",
        "with_validation_and_task_labels",
        "of_class_increments_as_tasks",
        "of_data_sets_with_task_labels",
        "of_data_sets_with_task_labels_in_the_samples_only",
    ],
)
def test_heads_know_the_task_labels_of_their_samples(stream: str, tmp_path: Any) -> None:
    """The samples say their task, whether or not the experience does."""
    train, test = STREAMS[stream](tmp_path)
    strategy = build("clts")
    for experience in train:
        strategy.train(experience)
    for head, experience in enumerate(test):
        x, _, label = zip(*experience.dataset, strict=True)
        asked = strategy.model.eval().route(torch.stack(x), torch.tensor(label))
        assert (asked[:, head] == 1).all()


@pytest.mark.parametrize("boundaries", [False, True])
@pytest.mark.parametrize(
    ("size", "drop_last"),
    [*((size, False) for size in (1, 3, 8, 10, 16, 20)), *((size, True) for size in (1, 3, 8, 10, 16))],
)
def test_parts_of_one_experience_share_a_head(size: int, drop_last: bool, boundaries: bool) -> None:
    """Whether or not the stream hands its boundaries to strategies: CLTS has to know where an experience ends."""
    benchmark = new_classes()  # 16 images an experience
    strategy = build("clts")
    for part in split_online_stream(
        benchmark.train_stream, size, access_task_boundaries=boundaries, drop_last=drop_last, seed=0
    ):
        strategy.train(part)
    memory = memory_of(strategy)
    assert strategy.model.num_heads == 2
    assert [caption.experience for caption in memory.memory] == [0] * 6 + [1] * 6
    assert sorted(caption.target for caption in memory.memory) == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert memory.pair.generator.calls <= 2, "regenerated once an experience"
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7


class Numbering:
    """A captioner that says which part of an experience it is shown."""

    part = 0

    def caption(self, images: Any, class_names: Any = None) -> list[str]:
        return [str(self.part)] * len(images)


def test_parts_are_captioned_as_they_come_and_each_image_is_as_likely_kept() -> None:
    """Reservoir sampling: over many streams, captions stand for all parts of an experience alike."""
    benchmark = new_classes(each=40, experiences=1)
    parts = list(split_online_stream(benchmark.train_stream, 40, access_task_boundaries=True, seed=0))
    kept = [0] * len(parts)
    for seed in range(60):
        memory = CaptionBuffer(pair=Pair(Numbering(), Painter()), captions_per_class=4, seed=1000 * seed)
        for number, part in enumerate(parts):
            memory.pair.captioner.part = number
            memory.post_adapt(None, part)
        assert len(memory.memory) == 16
        for caption in memory.memory:
            kept[int(caption.text)] += 1
    assert all(0.75 < count / (sum(kept) / 4) < 1.25 for count in kept), kept


def parts_without_the_first(benchmark: Any, boundaries: bool) -> list[Any]:
    parts = split_online_stream(benchmark.train_stream, 4, access_task_boundaries=boundaries, seed=0)
    return [part for part in parts if not part.logging().is_first_subexp]


@pytest.mark.parametrize(("kind", "boundaries"), [("clts", False), ("caption-replay", False), ("caption-replay", True)])
def test_parts_whose_first_was_left_out_are_none_of_the_experience_before(kind: str, boundaries: bool) -> None:
    strategy, benchmark = build(kind), new_classes()
    for part in parts_without_the_first(benchmark, boundaries):
        strategy.train(part)
    classes = [tuple(sorted(experience.classes_in_this_experience)) for experience in benchmark.train_stream]
    assert [origin.classes for origin in memory_of(strategy).origins] == classes
    if kind == "clts":
        assert [record.experience for record in strategy.model.records] == list(range(len(classes)))


def test_experience_that_begins_with_a_further_part_is_refused_where_avalanche_gives_it_no_head() -> None:
    strategy, benchmark = build("clts"), new_classes()
    with pytest.raises(ValueError, match="first part of this experience"):
        strategy.train(parts_without_the_first(benchmark, boundaries=True)[0])


def test_stream_that_hides_its_boundaries_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    part = next(iter(split_online_stream(new_classes().train_stream, 8)))
    build("clts").train(part)
    assert "access_task_boundaries=False" in caplog.text


def test_online_images_are_regenerated_no_more_often_than_they_are_read() -> None:
    strategy, benchmark = build("caption-replay"), new_classes()
    parts = 0
    for part in split_online_stream(benchmark.train_stream, 8, seed=0):
        strategy.train(part)
        parts += 1
    assert memory_of(strategy).pair.generator.calls == parts - 1


# Small numbers


def _normalised(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 16), nn.BatchNorm1d(16), nn.Linear(16, outputs))


SMALL: dict[str, tuple[int, bool, bool, dict[str, Any]]] = {
    "one image a class": (1, False, False, {}),
    "one image a class, normalised router": (1, False, True, {}),
    "batches of one, normalised router": (9, False, True, {"train_mb_size": 1}),
    "a last batch of one, normalised head": (17, True, True, {"train_mb_size": 3}),
    "one image too many for the router's batches": (8, False, True, {"train_mb_size": 4, "replay_size": 5}),
    "more captions than images": (2, False, False, {"captions_per_class": 50}),
    "as many images as experiences": (4, False, False, {"replay_size": 2}),
}


@pytest.mark.parametrize("case", SMALL)
def test_small_numbers_are_trained_or_refused_before_training(case: str) -> None:
    each, head_norm, router_norm, given = SMALL[case]
    options = dict(given)
    iterations = Iterations()
    size = {"train_mb_size": options.pop("train_mb_size", 8)}
    head, router = (_normalised if normalised else network for normalised in (head_norm, router_norm))
    strategy = build("clts", head=head(6), router=router(12), plugins=[iterations], replay=options, **size)
    benchmark = new_classes(each=each)
    if _refused(strategy, benchmark.train_stream):
        assert iterations.count == 0
    else:
        strategy.eval(benchmark.test_stream)
        assert strategy.model.num_heads == 2


def _refused(strategy: Any, stream: Any) -> bool:
    try:
        strategy.train(stream)
    except ValueError:
        return True
    return False


@every_kind
@pytest.mark.parametrize(
    ("each", "replay"),
    [(1, {}), (1, {"mem_size": 2}), (9, {"mem_size": 1}), (9, {"mem_size": 3})],
)
def test_memory_of_fewer_than_all_classes(each: int, replay: dict[str, int], kind: str) -> None:
    strategy, benchmark = build(kind, replay=replay), new_classes(each=each)
    for experience in benchmark.train_stream:
        strategy.train(experience)
    strategy.eval(benchmark.test_stream)
    if kind == "caption-replay" and replay:
        assert len(memory_of(strategy).memory) == replay["mem_size"]


def test_one_image_regenerated_for_more_captions() -> None:
    strategy, benchmark = build("caption-replay", replay={"mem_size": 3, "replay_size": 1}), new_classes()
    for experience in benchmark.train_stream:
        strategy.train(experience)
    assert len(memory_of(strategy).buffer) == 1


# What is given back


@every_kind
def test_metrics_that_are_none_of_ours_stay_the_same(kind: str) -> None:
    """What CLTS does after an experience is not taken for training by who counts iterations."""
    evaluator = EvaluationPlugin(accuracy_metrics(minibatch=True))
    strategy = build(kind, evaluator=evaluator, train_epochs=2)
    for experience in new_classes().train_stream:
        strategy.train(experience)
    steps, _ = evaluator.get_all_metrics()["Top1_Acc_MB/train_phase/train_stream"]
    assert steps == list(range(len(steps)))
    assert strategy.clock.train_exp_counter == 2


@with_captions
def test_an_empty_test_of_a_class_to_come_is_no_error(kind: str) -> None:
    strategy = build(kind)
    strategy.train(benchmark_from_datasets(train=[avalanche_squares([0, 1])]).streams["train"][0])
    test = benchmark_from_datasets(test=[avalanche_squares([4, 5], 2, seed=1)]).streams["test"]
    assert stream_accuracy(strategy, test) <= 0.5


def test_square_is_its_colour() -> None:
    assert [nearest_colour(square(name, 3)) for name in NAMES] == NAMES
