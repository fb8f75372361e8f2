"""Where Avalanche takes a storage policy, it takes a CaptionBuffer.

The patterns are those of Avalanche's own tests of replay, storage policies and data loaders, written anew.
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.benchmarks.utils import AvalancheDataset, concat_datasets
from avalanche.benchmarks.utils.data_loader import (
    GroupBalancedDataLoader,
    ReplayDataLoader,
    SingleDatasetDataLoader,
    TaskBalancedDataLoader,
)
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.storage_policy import (
    BalancedExemplarsBuffer,
    ClassBalancedBuffer,
    ExemplarsBuffer,
    ExperienceBalancedBuffer,
    ParametricBuffer,
    ReservoirSamplingBuffer,
)

from avalanche_clts import CaptionBuffer, Pair

from .contract import NAMES, Painter, Seer, build, nearest_colour, new_classes, stream_accuracy

POLICIES = {
    "reservoir": lambda: ReservoirSamplingBuffer(12),
    "by experience": lambda: ExperienceBalancedBuffer(12),
    "by class": lambda: ClassBalancedBuffer(12),
    "parametric": lambda: ParametricBuffer(12, groupby="class"),
    "captions": lambda: captions(max_size=12),
    "captions by class": lambda: captions(captions_per_class=3),
    "captions by both": lambda: captions(max_size=12, captions_per_class=3),
}
every_policy = pytest.mark.parametrize("policy", POLICIES)


def captions(**options: Any) -> CaptionBuffer:
    return CaptionBuffer(pair=Pair(Seer(), Painter()), **options)


def agent(experience: Any) -> Any:
    """As much of a strategy as the policies ask for."""
    return SimpleNamespace(experience=experience, clock=SimpleNamespace(train_exp_counter=0), device="cpu")


def filled(policy: ExemplarsBuffer, **options: Any) -> ExemplarsBuffer:
    for experience in new_classes(**options).train_stream:
        policy.post_adapt(agent(experience), experience)
    return policy


@every_policy
def test_policy_serves_the_replay_plugin(policy: str) -> None:
    memory = POLICIES[policy]()
    strategy = build("replay", replay={"mem_size": memory.max_size, "storage_policy": memory})
    benchmark = new_classes()
    for experience in benchmark.train_stream:
        strategy.train(experience)
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7
    assert len(memory.buffer) == 12


@every_policy
def test_policy_is_filled_and_never_more_than_filled(policy: str) -> None:
    memory = POLICIES[policy]()
    assert len(memory.buffer) == 0
    for experience, size in zip(new_classes().train_stream, (6, 12), strict=True):
        memory.post_adapt(agent(experience), experience)
        assert size <= len(memory.buffer) <= 12
    assert len(memory.buffer) == 12


@every_policy
def test_policy_updates_in_the_old_way(policy: str) -> None:
    memory = POLICIES[policy]()
    for experience in new_classes().train_stream:
        memory.update(agent(experience))
    assert len(memory.buffer) == 12


@every_policy
def test_policy_is_resized(policy: str) -> None:
    memory = filled(POLICIES[policy]())
    memory.resize(None, 5)
    assert memory.max_size == 5
    assert len(memory.buffer) <= 5
    memory.resize(None, 20)
    assert memory.max_size == 20
    assert 0 < len(memory.buffer) <= 5, "what was dropped does not come back"
    experience = new_classes().train_stream[0]
    memory.post_adapt(agent(experience), experience)
    assert len(memory.buffer) > 5


@every_policy
def test_buffer_holds_the_stream_it_was_filled_from(policy: str) -> None:
    data = filled(POLICIES[policy](), task_labels=True).buffer
    assert isinstance(data, AvalancheDataset)
    assert len(data) == 12
    for group in (data.train(), data.eval()):
        for i in range(len(group)):
            x, y, task = group[i]
            assert nearest_colour(x) == NAMES[y]
            assert task == y // 2 == group.targets_task_labels[i]
            assert y == group.targets[i]


@pytest.mark.parametrize("policy", [p for p in POLICIES if p not in ("reservoir", "by experience")])
def test_classes_share_the_buffer_in_equal_parts(policy: str) -> None:
    assert set(Counter(map(int, filled(POLICIES[policy]()).buffer.targets)).values()) == {3}


# A balanced buffer is made of others and cannot be set; Avalanche's assertion against it is never raised.
@pytest.mark.parametrize("policy", ["reservoir", "captions", "captions by class"])
def test_buffer_can_be_set(policy: str) -> None:
    memory = filled(POLICIES[policy]())
    memory.buffer = memory.buffer.subset([0, 1, 2])
    assert len(memory.buffer) == 3
    memory.buffer = concat_datasets([])
    assert len(memory.buffer) == 0


class ByTask(BalancedExemplarsBuffer[ExemplarsBuffer]):
    """A balanced buffer of buffers, as users write them: one for each task label."""

    def __init__(self, max_size: int, make: Any) -> None:
        super().__init__(max_size)
        self.make = make

    def post_adapt(self, agent: Any, exp: Any) -> None:
        lengths = self.get_group_lengths(len(self.buffer_groups) + 1)
        group = self.buffer_groups[exp.task_labels[0]] = self.make(lengths[-1])
        group.post_adapt(agent, exp)
        for length, buffer in zip(lengths, self.buffer_groups.values(), strict=True):
            buffer.resize(agent, length)


@pytest.mark.parametrize("make", [ReservoirSamplingBuffer, lambda size: captions(max_size=size)])
def test_buffers_within_a_balanced_buffer(make: Any) -> None:
    memory = ByTask(10, make)
    strategy = build("replay", replay={"mem_size": 10, "storage_policy": memory, "task_balanced_dataloader": True})
    benchmark = new_classes(task_labels=True)
    for experience, lengths in zip(benchmark.train_stream, ([10], [5, 5]), strict=True):
        strategy.train(experience)
        assert [len(data) for data in memory.buffer_datasets] == lengths
    assert len(memory.buffer) == 10
    assert set(memory.buffer.targets_task_labels) == {0, 1}
    assert stream_accuracy(strategy, benchmark.test_stream) >= 0.7


@every_policy
def test_buffer_goes_through_the_data_loaders(policy: str) -> None:
    torch.manual_seed(0)  # a reservoir may hold more of one task than of the other
    memory = filled(POLICIES[policy](), task_labels=True).buffer
    present = new_classes(task_labels=True).train_stream[0].dataset
    assert len(next(iter(SingleDatasetDataLoader(memory, batch_size=4)))[0]) == 4
    x, y, task = next(iter(TaskBalancedDataLoader(memory, batch_size=4)))
    assert Counter(task.tolist()) == {0: 2, 1: 2}
    x, _, _ = next(iter(GroupBalancedDataLoader([present, memory], batch_size=8)))
    assert x.shape == (8, 3, 8, 8)
    for balanced in (False, True):
        loader = ReplayDataLoader(
            present,
            memory,
            batch_size=4,
            batch_size_mem=4,
            task_balanced_dataloader=balanced,
            oversample_small_tasks=True,
        )
        batches = list(loader)
        assert len(batches) == 4
        for x, y, task in batches:
            assert x.shape == (8, 3, 8, 8)
            assert x.dtype == torch.float32
            assert len(y) == len(task) == 8


@every_policy
def test_buffer_is_concatenated_and_cut(policy: str) -> None:
    memory = filled(POLICIES[policy]()).buffer
    present = new_classes().train_stream[0].dataset
    both = present.concat(memory)
    assert len(both) == 28
    assert list(map(int, both.targets))[16:] == list(map(int, memory.targets))
    assert len(concat_datasets([memory, present, memory])) == 40
    part = both.subset([0, 16, 27])
    assert [nearest_colour(x) for x, *_ in part] == [NAMES[int(y)] for y in part.targets]
    assert {k: len(v) for k, v in memory.targets.val_to_idx.items()} == Counter(map(int, memory.targets))


def test_policy_without_a_limit_has_a_size_that_the_replay_plugin_can_compare() -> None:
    memory = captions(captions_per_class=3)
    assert isinstance(memory.max_size, int)
    ReplayPlugin(mem_size=memory.max_size, storage_policy=memory)
