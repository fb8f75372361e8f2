"""Samples as Avalanche's users make them: targets, further fields, transforms; and what is refused."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, split_online_stream
from avalanche.benchmarks.utils import AvalancheDataset, make_avalanche_dataset
from avalanche.benchmarks.utils.data_attribute import DataAttribute
from avalanche.benchmarks.utils.transform_groups import TransformGroups
from avalanche.benchmarks.utils.transforms import MultiParamTransform, MultiParamTransformCallable
from avalanche.training.plugins import RARPlugin, RWalkPlugin
from torch import nn
from torch.utils.data import Dataset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Lambda, Normalize, ToTensor
from torchvision.transforms.functional import to_tensor

from avalanche_clts import CLTSPlugin, load_checkpoint, save_checkpoint
from avalanche_clts.images.avalanche import class_names, earlier_experience, indices_by_class
from avalanche_clts.metrics import right_heads

from .contract import NAMES, avalanche_squares, build, memory_of, squares, with_captions

CLASSES = ([0, 1], [2, 3])
INVERTED = Compose([ToTensor(), Lambda(lambda x: 1 - x)])
SPREAD = Compose([ToTensor(), Normalize(0.5, 0.25)])


def two_experiences(data_of: Any) -> Any:
    parts = [data_of([0, 1]), data_of([2, 3])]
    return benchmark_from_datasets(train=parts, test=parts)


def accuracies(strategy: Any, benchmark: Any) -> list[float]:
    results = strategy.eval(benchmark.test_stream)
    return [results[name] for name in sorted(results) if name.startswith("Top1_Acc_Exp") and "eval" in name]


def as_tensors(classes: list[int]) -> AvalancheDataset:
    data = squares(classes)
    x, y = torch.stack([to_tensor(image) for image in data.images]), torch.tensor(data.targets)
    return make_avalanche_dataset(TensorDataset(x, y), data_attributes=[DataAttribute(y.tolist(), "targets")])


@with_captions
def test_targets_that_are_tensors_share_a_batch_with_regenerated_ones(kind: str) -> None:
    strategy, benchmark = build(kind, train_epochs=20), two_experiences(as_tensors)
    strategy.train(benchmark.train_stream)
    sample = memory_of(strategy).buffer[0]
    assert [type(field) for field in sample[:2]] == [torch.Tensor, torch.Tensor]
    if kind == "clts":
        assert accuracies(strategy, benchmark) == [1, 1]


@pytest.mark.parametrize("appended", [0, 1])
def test_task_labels_are_told_from_what_samples_hold_behind_them(appended: int) -> None:
    def labelled(classes: list[int]) -> AvalancheDataset:
        dataset = avalanche_squares(classes, task=classes[0] // 2)
        weights = DataAttribute([appended] * len(dataset), "weight", use_in_getitem=True)
        return dataset.update_data_attribute("weight", weights)

    strategy, benchmark = build("clts"), two_experiences(labelled)
    strategy.train(benchmark.train_stream)
    assert accuracies(strategy, benchmark) == [1, 1]


class OfImageAndTarget(MultiParamTransform):
    def __call__(self, x: Any, y: Any, *rest: Any) -> Any:
        assert isinstance(y, int)
        return (to_tensor(x), y, *rest)

    def flat_transforms(self, position: int) -> list[Any]:
        return [self]


@with_captions
@pytest.mark.parametrize(
    "transform", [OfImageAndTarget(), MultiParamTransformCallable(lambda x, y: (to_tensor(x), y))], ids=["own", "made"]
)
def test_transforms_of_image_and_target_are_shown_both(kind: str, transform: Any) -> None:
    def transformed(classes: list[int]) -> AvalancheDataset:
        data = squares(classes)
        groups = TransformGroups({"train": transform, "eval": transform})
        return make_avalanche_dataset(
            data, data_attributes=[DataAttribute(data.targets, "targets")], transform_groups=groups
        )

    strategy, benchmark = build(kind), two_experiences(transformed)
    strategy.train(benchmark.train_stream)
    x, y = memory_of(strategy).buffer[0][:2]
    assert x.shape == (3, 8, 8)
    assert y in (0, 1)


def joined(first: Any, second: Any) -> Any:
    return lambda classes: avalanche_squares(classes, transform=first).concat(
        avalanche_squares(classes, seed=2, transform=second)
    )


@with_captions
def test_parts_of_an_experience_behind_other_transforms_are_refused(kind: str) -> None:
    benchmark = two_experiences(joined(ToTensor(), SPREAD))
    with pytest.raises(ValueError, match=r"transforms of their own.*differ by.*an experience of its own"):
        build(kind).train(benchmark.train_stream[0])


@with_captions
def test_parts_behind_transforms_that_do_the_same_are_one_experience(kind: str) -> None:
    strategy = build(kind)
    strategy.train(two_experiences(joined(ToTensor(), ToTensor())).train_stream[0])
    assert memory_of(strategy).num_experiences == 1


@pytest.mark.parametrize("target", ["0", 0.5, True, torch.tensor([0]), torch.tensor(0.0), -1], ids=repr)
@with_captions
def test_targets_that_are_no_class_ids_are_refused_before_training(kind: str, target: Any) -> None:
    data = squares([0])
    data.targets = [target] * len(data)
    dataset = make_avalanche_dataset(data, data_attributes=[DataAttribute(data.targets, "targets")])
    with pytest.raises(TypeError, match="each sample needs one class id"):
        build(kind).train(benchmark_from_datasets(train=[dataset]).train_stream[0])


class Dictionaries(Dataset):
    def __init__(self) -> None:
        self.data = squares([0, 1])
        self.targets = self.data.targets

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        image, target = self.data[index]
        return {"image": image, "label": target}


@with_captions
def test_dictionaries_are_told_of_behind_transforms_too(kind: str) -> None:
    groups = TransformGroups({"train": (ToTensor(), None), "eval": (ToTensor(), None)})
    data = Dictionaries()
    dataset = make_avalanche_dataset(
        data, data_attributes=[DataAttribute(data.targets, "targets")], transform_groups=groups
    )
    with pytest.raises(TypeError, match="samples of this stream are dicts"):
        build(kind).train(benchmark_from_datasets(train=[dataset]).train_stream[0])


def test_images_without_a_transform_are_told_of() -> None:
    data = squares([0, 1])
    dataset = make_avalanche_dataset(data, data_attributes=[DataAttribute(data.targets, "targets")])
    with pytest.raises(TypeError, match=r"end in Images, and networks take tensors.*ToTensor"):
        build("clts").train(benchmark_from_datasets(train=[dataset]).train_stream[0])


def test_first_experience_whose_names_are_unknown_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    def named_until(classes: list[int]) -> AvalancheDataset:
        data = squares(classes)
        if classes[0] > 1:
            del data.classes
        groups = TransformGroups({"train": (ToTensor(), None), "eval": (ToTensor(), None)})
        return make_avalanche_dataset(
            data, data_attributes=[DataAttribute(data.targets, "targets")], transform_groups=groups
        )

    strategy = build("clts")
    with caplog.at_level(logging.WARNING):
        strategy.train(benchmark_from_datasets(train=[named_until([k, k + 1]) for k in (0, 2, 4)]).train_stream)
    assert caplog.text.count("the class names of experience 1 are unknown") == 1
    assert caplog.text.count("class names of experience") == 1


def test_labels_renumbered_beside_their_folders_have_no_names(tmp_path: Any) -> None:
    for k, name in enumerate(NAMES[:3]):
        (tmp_path / name).mkdir()
        for i in range(3):
            squares([k]).images[i].save(tmp_path / name / f"{i}.png")
    folder = ImageFolder(str(tmp_path), transform=ToTensor())
    as_it_is = make_avalanche_dataset(folder, data_attributes=[DataAttribute(folder.targets, "targets")])
    assert class_names(as_it_is) == dict(enumerate(folder.classes))
    folder.samples = [(path, (target + 1) % 3) for path, target in folder.samples]
    folder.targets = [target for _, target in folder.samples]
    renumbered = make_avalanche_dataset(folder, data_attributes=[DataAttribute(folder.targets, "targets")])
    assert class_names(renumbered) is None


# Strategies


def test_trained_model_in_a_new_strategy_keeps_its_head() -> None:
    first, benchmark = build("clts"), two_experiences(avalanche_squares)
    first.train(benchmark.train_stream[0])
    weights = [p.clone() for p in first.model.heads[0].parameters()]
    second = build("clts")
    second.model = first.model
    with pytest.raises(ValueError, match=r"model has 1 heads, but captions of 0 experiences.*a new model"):
        second.train(benchmark.train_stream[1])
    assert all(torch.equal(a, b) for a, b in zip(weights, first.model.heads[0].parameters(), strict=True))


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (lambda: RWalkPlugin(), "RWalkPlugin weighs parameters"),
        (lambda: RARPlugin(batch_size_mem=4, mem_size=16), "RARPlugin traces the model"),
        (lambda: CLTSPlugin(pair=memory_of(build("clts")).pair), "more than one CLTSPlugin"),
    ],
    ids=["rwalk", "rar", "clts"],
)
def test_plugins_that_cannot_go_with_heads_are_refused_before_training(plugin: Any, reason: str) -> None:
    strategy = build("clts", plugins=[plugin()])
    with pytest.raises(ValueError, match=reason):
        strategy.train(two_experiences(avalanche_squares).train_stream[0])


def test_part_of_an_experience_that_is_done_is_told_of() -> None:
    strategy = build("clts")
    stream = two_experiences(avalanche_squares).train_stream
    parts = list(split_online_stream(stream, 8, access_task_boundaries=True, seed=0))[:2]
    for part in parts:
        strategy.train(part)
    with pytest.raises(ValueError, match="captioned to its end"):
        strategy.train(parts[1])


def test_router_may_have_lazy_layers() -> None:
    strategy, benchmark = (
        build("clts", router=nn.Sequential(nn.Flatten(), nn.LazyLinear(16))),
        two_experiences(avalanche_squares),
    )
    strategy.train(benchmark.train_stream)
    assert accuracies(strategy, benchmark) == [1, 1]


# Checkpoints of streams that are not trained from the first experience to the last


def domains() -> Any:
    parts = [avalanche_squares([0, 1, 2], seed=k, transform=t) for k, t in enumerate((ToTensor(), INVERTED, SPREAD))]
    return benchmark_from_datasets(train=parts, test=parts)


def online(boundaries: bool) -> Any:
    return lambda stream: list(split_online_stream(stream, 12, access_task_boundaries=boundaries, seed=0))


ORDERS = {
    "online, boundaries known": (online(True), 4),
    "online, in the middle of an experience": (online(True), 3),
    "online": (online(False), 4),
    "another order": (lambda stream: [stream[i] for i in (1, 0, 2)], 2),
    "backwards": (lambda stream: [stream[i] for i in (2, 1, 0)], 2),
    "a slice": (lambda stream: stream[1:], 1),
}


@pytest.mark.parametrize("order", ORDERS)
def test_resumed_experiences_have_their_own_transforms(order: str, tmp_path: Any) -> None:
    of_stream, cut = ORDERS[order]
    runs = []
    for resumes in (False, True):
        strategy = build("clts", train_epochs=2)
        for number, experience in enumerate(of_stream(domains().train_stream)):
            if resumes and number == cut:
                save_checkpoint(strategy, tmp_path)
                strategy = build("clts", train_epochs=2)
                load_checkpoint(strategy, tmp_path)
            strategy.train(experience)
        runs.append([value.clone() for value in strategy.model.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_parts_after_a_checkpoint_have_targets_like_those_before(tmp_path: Any) -> None:
    parts = list(split_online_stream(two_experiences(as_tensors).train_stream, 4, seed=0))
    strategy = build("caption-replay", train_epochs=1)
    strategy.train(parts[0])
    save_checkpoint(strategy, tmp_path)
    resumed = build("caption-replay", train_epochs=1)
    load_checkpoint(resumed, tmp_path)
    for part in parts[1:]:
        resumed.train(part)
    assert all(isinstance(sample[1], torch.Tensor) for sample in memory_of(resumed).buffer)


def test_experience_that_is_in_no_stream_has_none_before_it() -> None:
    benchmark = two_experiences(avalanche_squares)
    assert earlier_experience(benchmark.train_stream[0], None) is None
    assert earlier_experience(benchmark.train_stream[1], 0).current_experience == 0


def test_labels_that_a_caller_gives_are_taken_where_they_are_labels() -> None:
    def labelled(classes: list[int]) -> AvalancheDataset:
        return avalanche_squares(classes, task=classes[0] // 2)

    strategy, benchmark = build("clts"), two_experiences(labelled)
    strategy.train(benchmark.train_stream)
    model, x = strategy.model.eval(), benchmark.test_stream[1].dataset[0][0][None]
    mistaken = torch.tensor([0])
    model.given_labels, model.mistaken_labels = torch.tensor([1]), mistaken
    assert model(x, torch.tensor([0])).argmax() in (0, 1)
    assert model(x, mistaken).argmax() in (2, 3)
    assert model(x).argmax() in (2, 3)


def test_fractions_of_which_whole_numbers_are_yielded_are_class_ids() -> None:
    data = squares([0, 1])
    dataset = make_avalanche_dataset(data, data_attributes=[DataAttribute([float(t) for t in data.targets], "targets")])
    assert list(indices_by_class(dataset)) == [0, 1]
    texts = make_avalanche_dataset([(image, "0") for image in data.images])
    with pytest.raises(TypeError, match="each sample needs one class id"):
        indices_by_class(texts)


def test_experience_that_is_not_in_the_stream_again_is_told_of(tmp_path: Any, caplog: Any) -> None:
    strategy, benchmark = build("clts", train_epochs=1), domains()
    strategy.train(benchmark.train_stream[0])
    save_checkpoint(strategy, tmp_path)
    resumed = build("clts", train_epochs=1)
    load_checkpoint(resumed, tmp_path)
    resumed.train(two_experiences(avalanche_squares).train_stream[1])
    assert "experience 0 was learnt before the checkpoint and is not in this stream" in caplog.text


def test_a_head_of_another_stream_is_not_right_because_it_came_as_early() -> None:
    strategy = build("clts")
    streams = [benchmark_from_datasets(**{part: [avalanche_squares(c)] for part in ("train", "test")}) for c in CLASSES]
    for stream in streams:
        strategy.train(stream.train_stream)
    for number, stream in enumerate(streams):
        (test,) = stream.test_stream
        right = right_heads(strategy.model, test, torch.tensor(CLASSES[number]))
        assert right.tolist() == [[number == 0, number == 1]] * 2
