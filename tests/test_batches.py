"""Batches fit the device, nothing is done twice, and the host works while the device does."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from avalanche_clts import BlipCaptioner, DiffusionGenerator
from avalanche_clts.pair.batches import run_batches
from tests.test_pairs import PROMPTS, pictures, pixels


def same(batch):
    return batch


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_results_come_in_order_and_batches_are_halved_where_memory_runs_out(device: str) -> None:
    computed: list[list[int]] = []
    told: list[int] = []

    def compute(batch: list[int]) -> list[int]:
        if len(batch) > 3:
            raise torch.OutOfMemoryError
        computed.append(list(batch))
        return [10 * item for item in batch]

    results, batch_size = run_batches(
        range(11), 8, prepare=list, compute=compute, finish=same, device=device, done=told.append
    )
    assert results == [10 * item for item in range(11)]
    assert batch_size == 2
    assert [item for batch in computed for item in batch] == list(range(11)), "something was done twice"
    assert sum(told) == 11


def test_one_item_too_many_is_the_devices_own_error() -> None:
    def compute(batch: list[int]) -> list[int]:
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError, match="no memory"):
        run_batches(range(3), 2, prepare=list, compute=compute, finish=same, device="cpu")


def test_host_prepares_the_next_batch_while_an_accelerator_computes() -> None:
    prepared = [threading.Event() for _ in range(3)]

    def prepare(batch: list[int]) -> int:
        prepared[batch[0]].set()
        return batch[0]

    def compute(item: int) -> int:
        if item < 2:
            assert prepared[item + 1].wait(10), "the next batch waits for this one"
        return item

    results, _ = run_batches(range(3), 1, prepare=prepare, compute=compute, finish=lambda item: [item], device="meta")
    assert results == [0, 1, 2]


def test_errors_of_the_hosts_part_are_not_lost() -> None:
    def broken(batch: list[int]) -> list[int]:
        raise KeyError("host")

    for part in ("prepare", "finish"):
        parts = {"prepare": list, "compute": same, "finish": same} | {part: broken}
        for device in ("cpu", "meta"):
            with pytest.raises(KeyError, match="host"):
                run_batches(range(3), 2, **parts, device=device)


def test_generator_and_captioner_go_on_with_smaller_batches(tiny_pair_folder: Path, monkeypatch) -> None:
    generator = DiffusionGenerator(tiny_pair_folder / "generator", steps=1, guidance_scale=1.0, batch_size=8)
    captioner = BlipCaptioner(tiny_pair_folder / "captioner", max_new_tokens=4, batch_size=8)
    images, captions = generator.generate(PROMPTS, range(5)), captioner.caption(pictures(5))
    for part, method, batch in ((generator, "_generate_batch", 0), (captioner, "_tokens", 1)):
        whole = getattr(part, method)

        def limited(*arguments, whole=whole, batch=batch):
            if len(arguments[batch]) > 2:
                raise torch.OutOfMemoryError
            return whole(*arguments)

        monkeypatch.setattr(part, method, limited)
    again = generator.generate(PROMPTS, range(5))
    assert all(np.abs(pixels(a) - pixels(b)).max() <= 1 for a, b in zip(images, again, strict=True))
    assert captioner.caption(pictures(5)) == captions
    assert (generator.batch_size, captioner.batch_size) == (2, 2)
