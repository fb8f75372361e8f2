"""Batches fit the device, nothing is done twice, and the host works while the device does."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from avalanche_clts import BlipCaptioner, DiffusionGenerator
from avalanche_clts.pair.batches import BatchSize, run_batches
from tests.test_pairs import PROMPTS, pictures, pixels


def same(batch):
    return batch


class Device:
    """Computes ten times each item, and runs out of memory above `limit(batches so far)` items."""

    def __init__(self, limit) -> None:
        self.limit = limit
        self.tried: list[int] = []
        self.computed: list[list[int]] = []

    def compute(self, batch: list[int]) -> list[int]:
        self.tried.append(len(batch))
        if len(batch) > self.limit(len(self.tried)):
            raise torch.OutOfMemoryError
        self.computed.append(list(batch))
        return [10 * item for item in batch]

    @property
    def failures(self) -> int:
        return len(self.tried) - len(self.computed)


@pytest.mark.parametrize("kind", ["cpu", "meta"])
def test_results_come_in_order_and_batches_are_halved_where_memory_runs_out(kind: str) -> None:
    device, told, size = Device(lambda batches: 3), [], BatchSize(8)
    results = run_batches(
        range(11), size, prepare=list, compute=device.compute, finish=same, device=kind, done=told.append
    )
    assert results == [10 * item for item in range(11)]
    assert device.tried[:3] == [8, 4, 2]
    assert [item for batch in device.computed for item in batch] == list(range(11)), "something was done twice"
    assert sum(told) == 11
    assert size.asked == 8


@pytest.mark.parametrize("kind", ["cpu", "meta"])
def test_batches_grow_back_after_memory_ran_out_once(kind: str) -> None:
    device, size = Device(lambda batches: 5 if batches == 2 else 100), BatchSize(8)
    run_batches(range(80), size, prepare=list, compute=device.compute, finish=same, device=kind)
    assert sum(map(len, device.computed)) == 80
    ahead = [4] if kind == "meta" else []  # the batch that was prepared before the size grew
    assert device.tried[: 4 + len(ahead)] == [8, 8, 4, 4, *ahead]
    assert set(device.tried[4 + len(ahead) : -1]) == {8}
    assert (size.now, device.failures) == (8, 1)


@pytest.mark.parametrize("limit", [1, 3, 20, 63])
def test_a_device_that_is_always_short_of_memory_is_tried_ever_more_rarely(limit: int) -> None:
    device, size = Device(lambda batches: limit), BatchSize(64)
    for _ in range(5):  # what was learnt lasts from call to call
        run_batches(range(1000), size, prepare=list, compute=device.compute, finish=same, device="cpu")
    assert sum(map(len, device.computed)) == 5000
    assert device.failures <= 20
    assert len(device.computed) <= 5000 / (limit / 2) + 50
    assert size.asked_for(64) is size
    assert size.asked_for(32).now == 32


def test_one_item_too_many_is_the_devices_own_error() -> None:
    def compute(batch: list[int]) -> list[int]:
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError, match="no memory"):
        run_batches(range(3), BatchSize(2), prepare=list, compute=compute, finish=same, device="cpu")


def test_host_prepares_the_next_batch_while_an_accelerator_computes() -> None:
    prepared = [threading.Event() for _ in range(3)]

    def prepare(batch: list[int]) -> int:
        prepared[batch[0]].set()
        return batch[0]

    def compute(item: int) -> int:
        if item < 2:
            assert prepared[item + 1].wait(10), "the next batch waits for this one"
        return item

    results = run_batches(
        range(3), BatchSize(1), prepare=prepare, compute=compute, finish=lambda item: [item], device="meta"
    )
    assert results == [0, 1, 2]


def test_errors_of_the_hosts_part_are_not_lost() -> None:
    def broken(batch: list[int]) -> list[int]:
        raise KeyError("host")

    for part in ("prepare", "finish"):
        parts = {"prepare": list, "compute": same, "finish": same} | {part: broken}
        for device in ("cpu", "meta"):
            with pytest.raises(KeyError, match="host"):
                run_batches(range(3), BatchSize(2), **parts, device=device)


def test_generator_and_captioner_go_on_with_smaller_batches(tiny_pair_folder: Path, monkeypatch) -> None:
    generator = DiffusionGenerator(tiny_pair_folder / "generator", steps=1, guidance_scale=1.0, batch_size=8)
    captioner = BlipCaptioner(tiny_pair_folder / "captioner", max_new_tokens=4, batch_size=8)
    images, captions = generator.generate(PROMPTS, range(5)), captioner.caption(pictures(5))
    tried: dict[object, list[int]] = {generator: [], captioner: []}
    for part, method in ((generator, "_generate_batch"), (captioner, "_tokens")):
        whole = getattr(part, method)

        def limited(*arguments, whole=whole, part=part):
            tried[part].append(len(arguments[0]))
            if len(arguments[0]) > 2:
                raise torch.OutOfMemoryError
            return whole(*arguments)

        monkeypatch.setattr(part, method, limited)
    again = generator.generate(PROMPTS, range(5))
    assert all(np.abs(pixels(a) - pixels(b)).max() <= 1 for a, b in zip(images, again, strict=True))
    assert captioner.caption(pictures(5)) == captions
    assert tried == {part: [5, 2, 2, 1] for part in (generator, captioner)}
    assert (generator.batch_size, captioner.batch_size) == (8, 8), "what was asked for is asked for again"
    generator.generate(PROMPTS, range(5))
    assert tried[generator][4] < 5, "what was learnt is not forgotten"
    generator.batch_size = 1
    generator.generate(PROMPTS, range(5))
    assert tried[generator][-5:] == [1] * 5
