"""Captions lend each other their words: what is borrowed, from whom, and when."""

from __future__ import annotations

from avalanche_clts import Caption, CaptionBuffer, CaptionMemory, Pair, split_shapes
from avalanche_clts.memory.recombination import Contexts

NAMES = ["star", "ring", "key", "orange"]


def name_of(caption: Caption) -> str:
    return NAMES[caption.target]


def caption(text: str, target: int, experience: int, seed: int = 0) -> Caption:
    return Caption(text, target, experience, 0, seed)


def borrowed(contexts: Contexts, borrower: Caption) -> set[str]:
    return {contexts.borrow(borrower, seed) for seed in range(200)}


def test_a_class_is_told_in_the_words_of_others() -> None:
    star, ring = caption("a small red star on navy", 0, 0), caption("a Ring, striped", 1, 1)
    contexts = Contexts([star, ring], name_of)
    assert borrowed(contexts, star) == {"a small red star on navy", "a star, striped"}
    assert borrowed(contexts, ring) == {"a small red ring on navy", "a ring, striped"}


def test_what_is_borrowed_depends_on_the_seed_alone() -> None:
    captions = [caption(f"a star number {i}", 0, 0) for i in range(50)]
    first, second = (Contexts(captions, name_of).borrow(captions[0], 7) for _ in range(2))
    assert first == second


def test_where_classes_come_again_the_experiences_keep_their_own_words() -> None:
    night, day = caption("a star at night", 0, 0), caption("a star by day", 0, 1)
    ring = caption("a ring at noon", 1, 2)
    contexts = Contexts([night, day, ring], name_of)
    assert borrowed(contexts, night) == {"a star at night", "a star at noon"}
    assert borrowed(contexts, day) == {"a star by day", "a star at noon"}
    assert borrowed(contexts, ring) == {"a ring at night", "a ring by day", "a ring at noon"}


def test_a_caption_that_does_not_say_its_class_lends_nothing() -> None:
    silent, starry = caption("something", 0, 0), caption("a starry sky", 0, 0)
    contexts = Contexts([silent, starry], name_of)
    assert contexts.borrow(silent, 0) == "something"
    ring = caption("a ring", 1, 1)
    assert borrowed(Contexts([silent, starry, ring], name_of), silent) == {"a star"}


def test_only_further_images_of_a_caption_are_told_in_borrowed_words() -> None:
    memory = CaptionMemory(captions_per_class=2)
    memory.add([caption(f"a {NAMES[t]} seen {w}", t, t, 2 * t + i) for t in (0, 1) for i, w in enumerate("ab")])
    prompts = memory.prompts(8, rephrase=Contexts(memory, name_of).borrow)
    own = [prompt for prompt in prompts if prompt.seed == prompt.caption.seed]
    assert len(own) == 4
    assert all(prompt.text == prompt.caption.text for prompt in own)
    assert all(NAMES[prompt.caption.target] in prompt.text for prompt in prompts)
    assert any(prompt.text != prompt.caption.text for prompt in prompts)


def test_the_buffer_recombines_by_default_and_not_when_told_so(embedded_pair: Pair) -> None:
    benchmark = split_shapes(10, seed=0)
    told: list[set[str]] = []
    for options in ({}, {"recombine": False}):
        buffer = CaptionBuffer(pair=embedded_pair, captions_per_class=3, replay_size=36, seed=0, **options)
        for experience in benchmark.train_stream[:2]:
            buffer.post_adapt(None, experience)
        assert len(buffer.regenerate()) == 36
        told.append({prompt.text for prompt in buffer.prompts})
    recombined, repeated = told
    assert len(repeated) <= 12 < 24 < len(recombined)
