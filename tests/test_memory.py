"""The memory of captions: budget, fair shares, and what it takes on disk."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from avalanche_clts import Caption, CaptionMemory
from avalanche_clts.pretraining.digit_pool import describe


def captions(target: int, experience: int, count: int, first_seed: int = 0) -> list[Caption]:
    return [Caption(f"class {target} number {n}", target, experience, 0, first_seed + n) for n in range(count)]


def test_budget_is_divided_equally_among_classes_as_they_come() -> None:
    memory = CaptionMemory(max_size=12)
    for experience in range(3):
        classes = [2 * experience, 2 * experience + 1]
        for target in classes:
            memory.add(captions(target, experience, memory.quota(classes)))
        assert len(memory) == 12
        assert set(Counter(c.target for c in memory).values()) == {12 // (2 * experience + 2)}


def test_class_that_comes_back_keeps_captions_of_both_experiences() -> None:
    memory = CaptionMemory(max_size=10)
    memory.add(captions(0, 0, 10))
    memory.add(captions(0, 1, 10))
    assert Counter(c.experience for c in memory) == {0: 5, 1: 5}


def test_captions_per_class_grows_with_the_stream() -> None:
    memory = CaptionMemory(captions_per_class=4)
    for experience in range(3):
        memory.add(captions(experience, experience, memory.quota([experience])))
    assert len(memory) == 12


@pytest.mark.parametrize("count", [1, 7, 30, 100])
def test_prompts_are_shared_equally_by_experiences(count: int) -> None:
    memory = CaptionMemory(captions_per_class=10)
    for experience in range(3):
        for target in (2 * experience, 2 * experience + 1):
            memory.add(captions(target, experience, 10))
    prompts = memory.prompts(count)
    assert len(prompts) == count
    shares = Counter(prompt.caption.experience for prompt in prompts)
    assert max(shares.values()) - min(shares[e] for e in range(3)) <= 1


def test_a_caption_that_serves_twice_gets_other_noise() -> None:
    memory = CaptionMemory(captions_per_class=2)
    memory.add(captions(0, 0, 2))
    prompts = memory.prompts(6)
    assert len({prompt.seed for prompt in prompts}) == 6
    assert all(0 <= prompt.seed < 2**32 for prompt in prompts)
    assert {prompt.seed for prompt in memory.prompts()} == {0, 1}


def test_fewer_images_than_captions_let_the_captions_take_turns() -> None:
    memory = CaptionMemory(captions_per_class=10)
    memory.add(captions(0, 0, 10))
    first = {prompt.caption for prompt in memory.prompts(4)}
    memory.add(captions(1, 1, 10))
    second = {prompt.caption for prompt in memory.prompts(8) if prompt.caption.target == 0}
    assert first != second


def test_captions_survive_the_disk_and_zcat_reads_them(tmp_path: Path) -> None:
    memory = CaptionMemory(captions_per_class=5)
    memory.add([*captions(3, 0, 5), Caption("naïve \n “quotes”", 4, 1, 2, 2**32 - 1)])
    path = tmp_path / "captions.jsonl.gz"
    memory.write(path)
    copy = CaptionMemory(captions_per_class=5)
    copy.read(path)
    assert copy.captions == memory.captions
    assert path.stat().st_size == memory.nbytes
    records = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    assert records[0] == {"text": "class 3 number 0", "class": 3, "experience": 0, "task": 0, "seed": 0}


def test_same_captions_are_the_same_bytes() -> None:
    memory = CaptionMemory(captions_per_class=5)
    memory.add(captions(3, 0, 5))
    assert memory.to_bytes() == memory.to_bytes()


def test_a_caption_of_a_digit_takes_at_most_25_bytes() -> None:
    memory = CaptionMemory(captions_per_class=20)
    draw = random.Random(0)
    for label in range(10):
        looks = [draw.choices(range(3), k=3) for _ in range(20)]
        memory.add(
            Caption(describe(label, thickness=t, slant=s, size=z), label, label // 2, 0, 1_839_201_837 + 20 * label + n)
            for n, (t, s, z) in enumerate(looks)
        )
    assert len(memory) == 200
    assert memory.nbytes / len(memory) <= 25


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-20], lambda b: b[:5], lambda b: b"no gzip", lambda b: gzip.compress(b'{"text": 1}\n')]
)
def test_damaged_file_is_refused_and_leaves_the_memory_as_it_was(tmp_path: Path, damage) -> None:
    memory = CaptionMemory(captions_per_class=50)
    memory.add(captions(3, 0, 50))
    before = list(memory.captions)
    path = tmp_path / "captions.jsonl.gz"
    path.write_bytes(damage(memory.to_bytes()))
    with pytest.raises(ValueError, match=r"captions\.jsonl\.gz is not a whole file of captions: line"):
        memory.read(path)
    assert memory.captions == before


@pytest.mark.parametrize("options", [{"max_size": 0}, {"captions_per_class": 0}, {"max_size": -1}, {}])
def test_budgets_that_hold_nothing_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"max_size|captions_per_class"):
        CaptionMemory(**options)


def test_classes_take_turns_where_there_is_not_an_image_for_each() -> None:
    """As in many experiences of many classes: no class is left out for good."""
    memory = CaptionMemory(captions_per_class=1)
    seen: set[tuple[int, int]] = set()
    for experience in range(4):
        memory.captions += [Caption("a", target, experience, 0, seed=target) for target in range(6)]
        prompts = memory.prompts(3 * (experience + 1))
        assert Counter(p.caption.experience for p in prompts) == dict.fromkeys(range(experience + 1), 3)
        seen |= {(p.caption.experience, p.caption.target) for p in prompts}
    assert {(0, target) for target in range(6)} <= seen
