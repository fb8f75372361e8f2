"""Text behind Avalanche's storage-policy interface."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.benchmarks.utils import AvalancheDataset
from PIL import Image
from torch.utils.data import TensorDataset
from torchvision.transforms import Compose, Normalize, ToTensor

from avalanche_clts import CaptionBuffer, CaptionReplayPlugin, CLTSPlugin, Pair, split_digits
from avalanche_clts.streams.benchmarks import ImageDataset


class Witness:
    """A generator that passes prompts on to a real one and remembers them."""

    def __init__(self, generator) -> None:
        self.generator = generator
        self.calls: list[list[str]] = []

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        self.calls.append(list(prompts))
        return self.generator.generate(prompts, seeds)


@pytest.fixture
def witness(tiny_pair: Pair) -> Pair:
    return Pair(tiny_pair.captioner, Witness(tiny_pair.generator))


def digits(**options):
    return split_digits(5, fixed_class_order=range(10), **options)


def test_buffer_is_empty_before_the_first_experience(tiny_pair: Pair) -> None:
    assert len(CaptionBuffer(pair=tiny_pair, max_size=10).buffer) == 0


def test_images_are_generated_once_however_often_the_buffer_is_read(witness: Pair) -> None:
    buffer = CaptionBuffer(pair=witness, captions_per_class=3)
    stream = digits().train_stream
    buffer.post_adapt(None, stream[0])
    assert len(witness.generator.calls) == 0, "nothing is generated before it is asked for"
    for _ in range(3):
        assert len(buffer.buffer) == 6
    assert len(witness.generator.calls) == 1
    buffer.post_adapt(None, stream[1])
    assert len(buffer.buffer) == 12
    assert len(witness.generator.calls) == 2


def test_preparing_the_next_experience_does_not_generate_again(witness: Pair) -> None:
    buffer = CaptionBuffer(pair=witness, captions_per_class=3)
    stream = digits().train_stream
    buffer.post_adapt(None, stream[0])
    assert len(buffer.buffer) == 6
    buffer.begin(stream[1])
    assert len(buffer.buffer) == 6
    assert len(witness.generator.calls) == 1


def test_released_images_are_generated_again_the_same(tiny_pair: Pair) -> None:
    buffer = CaptionBuffer(pair=tiny_pair, captions_per_class=3)
    buffer.post_adapt(None, digits().train_stream[0])
    first = [x for x, *_ in buffer.buffer]
    buffer.release()
    assert buffer.regenerated == []
    assert all(torch.equal(a, b) for a, (b, *_) in zip(first, buffer.buffer, strict=True))


def test_buffer_yields_what_the_stream_yields(tiny_pair: Pair) -> None:
    normalise = Compose([ToTensor(), Normalize(0.5, 0.5)])
    experience = digits(train_transform=normalise, eval_transform=ToTensor()).train_stream[1]
    buffer = CaptionBuffer(pair=tiny_pair, captions_per_class=4, replay_size=10)
    buffer.post_adapt(None, experience)
    assert isinstance(buffer.buffer, AvalancheDataset)
    assert len(buffer.buffer) == 10
    x, y, task = buffer.buffer.train()[0]
    real = experience.dataset[0]
    assert (x.shape, x.dtype, type(y), task) == (real[0].shape, real[0].dtype, type(real[1]), real[2])
    assert buffer.buffer.train()[3][0].min() < 0 <= buffer.buffer.eval()[3][0].min()
    assert set(buffer.buffer.targets) == {2, 3}
    assert torch.allclose(buffer.buffer.train()[3][0], 2 * buffer.buffer.eval()[3][0] - 1)


def test_captions_are_written_of_as_many_images_as_asked_for(tiny_pair: Pair) -> None:
    buffer = CaptionBuffer(pair=tiny_pair, captions_per_class=7)
    for experience in digits().train_stream:
        buffer.post_adapt(None, experience)
    assert [sum(c.target == k for c in buffer.memory) for k in range(10)] == [7] * 10
    assert [c.experience for c in buffer.memory] == [e for e in range(5) for _ in range(14)]
    assert len({c.seed for c in buffer.memory}) == 70


def test_task_labels_are_kept_with_the_captions(tiny_pair: Pair) -> None:
    buffer = CaptionBuffer(pair=tiny_pair, captions_per_class=2)
    for experience in digits(return_task_id=True).train_stream:
        buffer.post_adapt(None, experience)
    assert [c.task_label for c in buffer.memory] == [t for t in range(5) for _ in range(4)]
    assert list(buffer.buffer.targets_task_labels) == [c.task_label for c in buffer.memory]


def test_resize_drops_captions(tiny_pair: Pair) -> None:
    buffer = CaptionBuffer(pair=tiny_pair, max_size=20)
    buffer.post_adapt(None, digits().train_stream[0])
    buffer.resize(None, 6)
    assert len(buffer.memory) == len(buffer.buffer) == buffer.max_size == 6


def test_nothing_of_the_stream_stays_reachable(tiny_pair: Pair) -> None:
    """After an experience the buffer refers to no image or dataset of the stream."""
    experience = digits().train_stream[0]
    buffer = CaptionBuffer(pair=tiny_pair, captions_per_class=3)
    buffer.post_adapt(None, experience)
    assert len(buffer.buffer) == 6
    reached, frontier = set(), [buffer]
    while frontier:
        node = frontier.pop()
        if id(node) in reached or isinstance(node, type) or type(node).__name__ in ("module", "function"):
            continue
        reached.add(id(node))
        assert not isinstance(node, ImageDataset), "the stream's data set is reachable from the buffer"
        frontier += gc.get_referents(node)


@pytest.mark.parametrize(("names", "given"), [(["zero", "one", "two"], 3), ([], 0)])
def test_too_few_class_names_are_refused(tiny_pair: Pair, names: list[str], given: int) -> None:
    buffer = CaptionBuffer(pair=tiny_pair, captions_per_class=3, class_names=names)
    with pytest.raises(ValueError, match=rf"class_names has {given} names.*class 3"):
        buffer.begin(digits().train_stream[1])


@pytest.mark.parametrize(
    "options", [{"captions_per_class": 0}, {"max_size": 0}, {"captions_per_class": 3, "replay_size": 0}, {}]
)
def test_empty_budgets_are_refused(tiny_pair: Pair, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"captions_per_class|max_size|replay_size"):
        CaptionBuffer(pair=tiny_pair, **options)


def test_streams_of_tensors_are_regenerated_as_tensors(tiny_pair: Pair) -> None:
    data = TensorDataset(torch.rand(40, 3, 10, 12), torch.arange(40) % 4)
    data.targets = data.tensors[1].tolist()
    experience = nc_benchmark(data, data, 2, task_labels=False, seed=0).train_stream[0]
    buffer = CaptionBuffer(pair=tiny_pair, captions_per_class=2)
    buffer.post_adapt(None, experience)
    assert buffer.buffer[0][0].shape == (3, 10, 12)
    assert buffer.buffer[0][0].dtype == torch.float32


def test_prompts_are_told_without_generating_an_image(witness: Pair) -> None:
    buffer = CaptionBuffer(pair=witness, captions_per_class=3, replay_size=10)
    assert buffer.prompts == []
    buffer.post_adapt(None, digits().train_stream[0])
    told = buffer.prompts
    assert len(told) == 10
    assert witness.generator.calls == []
    buffer.regenerate()
    assert buffer.prompts == told
    assert witness.generator.calls == [[prompt.text for prompt in told]]


@pytest.mark.parametrize("kind", ["clts", "caption-replay"])
def test_where_no_replay_size_is_given_a_hundred_images_a_class_are_made(tiny_pair: Pair, kind: str) -> None:
    """Of each class seen, however many captions it has: what the recorded comparisons show."""
    plugin = {
        "clts": lambda: CLTSPlugin(pair=tiny_pair, captions_per_class=2),
        "caption-replay": lambda: CaptionReplayPlugin(pair=tiny_pair, mem_size=8),
    }[kind]()
    memory = plugin.storage_policy
    for seen, experience in enumerate(digits().train_stream[:3], start=1):
        memory.post_adapt(None, experience)
        assert Counter(prompt.caption.target for prompt in memory.prompts) == dict.fromkeys(range(2 * seen), 100)
