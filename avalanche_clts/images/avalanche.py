"""Avalanche's data sets, experiences and strategies from the inside: the one place that reads their private structures.

Avalanche 0.6 has no public way to ask a data set for its images before transforms, for the transforms themselves or
for the data set underneath, nor an experience of an online stream for its place in the experience that it is part of.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from avalanche.benchmarks import CLExperience, OnlineCLExperience
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, TransformGroups
from avalanche.benchmarks.utils.transforms import MultiParamTransform, TupleTransform
from avalanche.training.templates.base import BaseTemplate
from avalanche.training.templates.base_sgd import PeriodicEval
from PIL import Image
from torch import Tensor

from .formats import ImageFormat, common_format, format_of, to_pil
from .names import Reading, as_they_are, names_of

_LOOKED_AT = 256  # images of a data set whose format is looked at, at most


# Data sets


def raw_images(dataset: AvalancheDataset, indices: Sequence[int]) -> list[Image.Image]:
    """The images at `indices` as a person would have seen them before the stream's transforms, "L" or "RGB"."""
    untransformed = dataset.remove_current_transform_group()
    return [to_pil(_fields(untransformed[int(i)])[0]) for i in indices]


def image_format(dataset: AvalancheDataset) -> ImageFormat:
    """The format of a data set's images, read off a few hundred of them, evenly spaced.

    Raises `TypeError` if the samples are not images, `ValueError` if they are tensors out of range.
    """
    return common_format(format_of(image) for _, image in untransformed_images(dataset))


def untransformed_images(dataset: AvalancheDataset, *, also: Sequence[int] = ()) -> Iterator[tuple[int, Any]]:
    """Index and untransformed image of a few hundred samples, evenly spaced, and of those that are `also` asked for."""
    untransformed = dataset.remove_current_transform_group()
    leaf, at = _leaf(dataset._flat_data, 0)
    _fields(leaf[at])  # before transforms make something else of what is no tuple
    spaced = torch.linspace(0, len(dataset) - 1, min(_LOOKED_AT, len(dataset))).long().tolist()
    for i in dict.fromkeys([*spaced, *map(int, also)]):
        yield i, _fields(untransformed[i])[0]


def sample_nbytes(dataset: AvalancheDataset) -> int:
    """Bytes of one sample: of an image as raw uint8, or of a tensor that is none as it is."""
    sample = _fields(dataset.remove_current_transform_group()[0])[0]
    try:
        return image_format(dataset).nbytes
    except (TypeError, ValueError):
        return int(getattr(sample, "nbytes", 0))


def first_sample(dataset: AvalancheDataset) -> Tensor:
    """The first of a data set's inputs as a network takes them, `(1, ...)`.

    Raises `TypeError` where the transforms do not end in a tensor.
    """
    x = dataset[0][0]
    if not isinstance(x, (Tensor, np.ndarray)):
        raise TypeError(
            f"the transforms of this stream end in {type(x).__name__}s, and networks take tensors; let them end with "
            "ToTensor()"
        )
    return torch.as_tensor(x)[None]


def indices_by_class(dataset: AvalancheDataset) -> dict[int, list[int]]:
    """Indices of each class's samples, by the class that the data set yields, in increasing order of both."""
    if hasattr(dataset, "targets"):
        found = dataset.targets.val_to_idx
    else:
        found = {}
        for i in range(len(dataset)):
            found.setdefault(_class_id(_fields(dataset[i])[1]), []).append(i)
    merged: dict[int, list[int]] = {}
    transformed = hasattr(dataset, "targets") and _targets_change(dataset)
    untransformed = dataset.remove_current_transform_group()
    for target, indices in found.items():  # targets that are tensors are all distinct keys
        first = int(indices[0])
        if transformed:
            yielded = _fields(dataset[first])[1]
        else:  # whoever reads numbers from a file may list fractions, and yield whole ones
            yielded = _fields(untransformed[first])[1] if isinstance(target, (float, np.floating)) else target
        merged.setdefault(_class_id(yielded), []).extend(map(int, indices))
    return {target: sorted(merged[target]) for target in sorted(merged)}


def class_ids(dataset: AvalancheDataset, indices: Sequence[int]) -> list[int]:
    """The classes, as the data set yields them, of the samples at `indices`."""
    class_of = {i: target for target, of_class in indices_by_class(dataset).items() for i in of_class}
    return [class_of[int(i)] for i in indices]


def class_names(dataset: AvalancheDataset, reading: Reading = as_they_are) -> dict[int, str] | None:
    """The names of a data set's classes, by class id, where the data sets underneath know them; see `names_of`."""
    found: dict[int, str] = {}
    leaves: dict[int, tuple[Any, dict[int, int]]] = {}
    for target, indices in indices_by_class(dataset).items():
        leaf, index = _leaf(dataset._flat_data, indices[0])
        leaves.setdefault(id(leaf), (leaf, {}))[1][target] = index
    for leaf, samples in leaves.values():
        names = names_of(leaf, samples, reading)
        if names is None:
            return None
        found |= names
    return found


def name_classes(dataset: AvalancheDataset, names: Sequence[str]) -> None:
    """Tell the data sets underneath, those that do not know it, what their classes are called, by class id."""
    for indices in indices_by_class(dataset).values():
        leaf, _ = _leaf(dataset._flat_data, indices[0])
        if not hasattr(leaf, "classes"):  # with names of more classes than it has, its classes look renumbered
            leaf.classes = list(names[: max(map(int, leaf.targets)) + 1])


def stream_transforms(dataset: AvalancheDataset) -> TransformGroups:
    """The transforms between a data set's untransformed images and what it yields, train and eval.

    Frozen transforms are not among them: they belong to the image (the permutation of Permuted MNIST is its domain),
    so the captioner has seen their result. Where parts of the data set have transforms of their own, those of most.
    """
    chain = list(_usual_path(dataset).groups)
    return TransformGroups({group: _Chain(chain, group) for group in ("train", "eval")})


def has_own_transforms(dataset: AvalancheDataset) -> Callable[[int], bool]:
    """Whether a sample's transforms are others than `stream_transforms`, those of most, to ask by index."""
    usual = _usual_path(dataset)
    return lambda index: _path(dataset._flat_data, index) != usual


@dataclass(frozen=True)
class SampleLayout:
    """What a data set's samples hold beside the image.

    **Arguments:**

    - kind: class of the data set.
    - target: a zero of the kind that targets are.
    - extras: what a generated image has in the place of further fields of the data set underneath: zeros of their kind.
    - attributes: the data attributes in their order: name, a zero of its kind, and whether samples hold it.
    """

    kind: type[AvalancheDataset] = AvalancheDataset
    target: Any = 0
    extras: tuple[Any, ...] = ()
    attributes: tuple[tuple[str, Any, bool], ...] = (("targets", 0, False), ("targets_task_labels", 0, True))


def sample_layout(dataset: AvalancheDataset) -> SampleLayout:
    """How the samples of a data set are made up."""
    leaf, index = _leaf(dataset._flat_data, 0)
    sample = _fields(leaf[index])
    target = _fields(dataset[0])[1] if _targets_change(dataset) else sample[1]
    attributes = [(a.name, _zero_like(a[0]), a.use_in_getitem) for a in dataset._data_attributes.values()]
    if "targets" not in dataset._data_attributes:
        attributes.insert(0, ("targets", 0, False))
    return SampleLayout(type(dataset), _zero_like(target), tuple(map(_zero_like, sample[2:])), tuple(attributes))


def as_stream_dataset(
    images: Sequence[Image.Image],
    targets: Sequence[int],
    task_labels: Sequence[int],
    *,
    format: ImageFormat,
    transforms: TransformGroups,
    layout: SampleLayout = SampleLayout(),
) -> AvalancheDataset:
    """A data set of generated `images` that yields what the stream does: native format, then the stream's transforms.

    **Arguments:**

    - layout: of the stream's samples.
    """
    restored = [
        (format.restore(image), _of_kind(layout.target, target), *layout.extras)
        for image, target in zip(images, targets, strict=True)
    ]
    known = {"targets": list(targets), "targets_task_labels": list(task_labels)}
    attributes = [
        DataAttribute(known.get(name, [zero] * len(restored)), name, used) for name, zero, used in layout.attributes
    ]
    return layout.kind([restored], data_attributes=attributes, transform_groups=transforms)


def task_labels_of(dataset: AvalancheDataset, indices: Sequence[int] | None = None) -> list[int]:
    """The task labels of all samples, or of those at `indices`; 0 where the data set has none."""
    labels = getattr(dataset, "targets_task_labels", None)
    indices = range(len(dataset)) if indices is None else indices
    return [0 if labels is None else int(labels[int(i)]) for i in indices]


def _fields(sample: Any) -> Sequence[Any]:
    if isinstance(sample, (tuple, list)) and len(sample) > 1:
        return sample
    raise TypeError(
        f"the samples of this stream are {type(sample).__name__}s; they must be tuples that begin with an image and "
        "its class, (x, y) or (x, y, task_label): wrap the data set in one that yields these"
    )


def _class_id(target: Any) -> int:
    is_tensor = isinstance(target, Tensor) and target.ndim == 0
    value = target.item() if is_tensor else target
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 0:
        raise TypeError(
            f"the targets of this stream are not classes but {type(target).__name__}s, such as {target!r}; "
            "each sample needs one class id, a whole number from 0 on"
        )
    return int(value)


def _zero_like(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.zeros_like(value)
    return type(value)() if isinstance(value, (bool, int, float, str, np.generic)) else value


def _of_kind(zero: Any, target: int) -> Any:
    """A class id as the data set's own targets are, which one batch may hold beside them."""
    if isinstance(zero, Tensor):
        return torch.full_like(zero, target)
    return type(zero)(target) if isinstance(zero, np.generic) else target


class _Path(NamedTuple):
    """Transform groups on the way from a leaf to the surface, innermost first; equal where the transforms are."""

    groups: tuple[TransformGroups, ...]

    def __hash__(self) -> int:
        return len(self.groups)


class _Chain(MultiParamTransform):
    """The transform groups of nested data sets, innermost first, as one transform of x; the rest of a sample is shown
    to those that ask for it, and stays as it is."""

    def __init__(self, groups: Sequence[TransformGroups], name: str) -> None:
        self.groups = groups
        self.name = name

    def __call__(self, x: Any, *rest: Any) -> list[Any]:
        for group in self.groups:
            transform = group[self.name]
            if isinstance(transform, TupleTransform):  # one of x and one of the target, which is no longer wanted
                x = x if transform.transforms[0] is None else transform.transforms[0](x)
            else:
                x = group([x, *rest], group_name=self.name)[0]
        return [x, *rest]

    def flat_transforms(self, position: int) -> list[Any]:
        transforms = [group[self.name] for group in self.groups if position == 0]
        return [one for transform in transforms if transform is not None for one in transform.flat_transforms(0)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Chain) and (list(self.groups), self.name) == (list(other.groups), other.name)


# A data set's flat data are a tree, whose nodes carry transform groups and whose leaves are the data sets themselves.


def _nodes(node: Any) -> Iterator[Any]:
    if hasattr(node, "_datasets"):
        yield node
        for child in node._datasets:
            yield from _nodes(child)


def _usual_path(dataset: AvalancheDataset) -> _Path:
    """The one of most samples, of some that are evenly spaced."""
    spaced = torch.linspace(0, len(dataset) - 1, min(_LOOKED_AT, len(dataset))).long().tolist()
    paths = Counter(_path(dataset._flat_data, i) for i in spaced)
    return max(paths, key=paths.__getitem__)


def _path(node: Any, index: int) -> _Path:
    groups = []
    while hasattr(node, "_datasets"):
        groups.append(node._transform_groups)
        child, index = node._get_idx(index)
        node = node._datasets[child]
    return _Path(tuple(groups[::-1]))


def _leaf(node: Any, index: int) -> tuple[Any, int]:
    """The data set that sample `index` comes from, and its index there."""
    while hasattr(node, "_datasets"):
        child, index = node._get_idx(index)
        node = node._datasets[child]
    return node, index


def _targets_change(dataset: AvalancheDataset) -> bool:
    """Whether transforms may give some of a data set's samples other targets."""
    return any(map(_changes_targets, _nodes(dataset._flat_data)))


def _changes_targets(node: Any) -> bool:
    """Whether transforms at this node may give samples other targets."""
    for groups in (node._frozen_transform_groups, node._transform_groups):
        for name in ("train", "eval"):
            if groups[name] is not None and groups[name].flat_transforms(1):
                return True
    return False


# Experiences


def classes_of(experience: Any) -> tuple[int, ...]:
    """The classes of an experience's samples, in increasing order."""
    return tuple(indices_by_class(experience.dataset))


def task_labels_of_experience(experience: Any) -> tuple[int, ...]:
    """The task labels of an experience, in increasing order; (0,) where there are none."""
    labels = getattr(experience.dataset, "targets_task_labels", None)
    return (0,) if labels is None else tuple(sorted(map(int, labels.uniques)))


def adaptable(experience: Any, classes: Sequence[int], task_labels: Sequence[int]) -> Any:
    """The experience with the attributes that Avalanche's growing modules read, whatever built it."""
    seen = copy.copy(experience)
    for name, value in (("classes_in_this_experience", list(classes)), ("task_labels", list(task_labels))):
        with suppress(AttributeError):  # a property, which knows it already
            setattr(seen, name, value)
    return seen


class Part(NamedTuple):
    """Which part of an experience an (online) experience is.

    **Arguments:**

    - experience: index of the whole in its stream; None where it is not known.
    - is_first, is_last: whether the whole begins, or ends, with it. What is no part is both.
    - parts: how many the whole has; None where it is not known.
    - marked: whether a strategy was meant to see this.
    """

    experience: int | None
    is_first: bool = True
    is_last: bool = True
    parts: int | None = None
    marked: bool = True

    def goes_on_with(self, experience: int | None) -> bool:
        """Whether it is a further part of an experience, the newest that was seen."""
        return not self.is_first and (self.experience is None or experience in (None, self.experience))


def part_of(experience: Any) -> Part:
    """Where an experience stands in the one that an online stream has split."""
    if not isinstance(experience, OnlineCLExperience):
        return Part(_index(experience))
    known = _unmasked(experience)
    origin = known.origin_experience
    if origin is None:  # mixed from several, as where tasks fade into each other: no part of anything
        return Part(_index(experience))
    return Part(
        _index(origin),
        bool(known.is_first_subexp),
        bool(known.is_last_subexp),
        known.sub_stream_length,
        bool(experience.access_task_boundaries),
    )


def _index(experience: Any) -> int | None:
    """An experience's place in its stream; None for one that was made by hand and is in none."""
    with suppress(AssertionError, AttributeError):
        return int(_unmasked(experience).current_experience)
    return None


def _unmasked(experience: Any) -> Any:
    return experience.logging() if isinstance(experience, CLExperience) else experience


def train_stream_beside(experience: Any) -> Any:
    """The training stream of the benchmark that an experience comes from; None where it is not known."""
    stream = getattr(_unmasked(experience), "_origin_stream", None) or getattr(experience, "origin_stream", None)
    return getattr(getattr(stream, "benchmark", None), "train_stream", None)


def divided_like_training(experience: Any, learnt: Sequence[tuple[int, Sequence[int]]]) -> bool:
    """Whether test experience t goes with training experience t, as far as can be told.

    **Arguments:**

    - learnt: place in their stream, and classes, of the training experiences so far: all that is known of them where
        the test stream knows no benchmark.
    """
    training = train_stream_beside(experience)
    of_test = _whole_length(getattr(_unmasked(experience), "origin_stream", None))
    if of_test is None:
        return False
    places = [place for place, _ in learnt]
    if len(set(places)) < len(places):  # streams that were learnt one after the other: of which is it?
        return False
    if training is not None:
        return _whole_length(training) == of_test
    if any(place >= of_test for place in places):  # one test set for all
        return False
    shown = set(classes_of(experience))
    return all(shown <= set(classes) for place, classes in learnt if place == _index(experience))


def _whole_length(stream: Any) -> int | None:
    """Of the stream that another may be a slice of; None where it is not known."""
    try:
        return int(stream._full_length()) if hasattr(stream, "_full_length") else len(stream)
    except TypeError:
        return None


def belongs_to(test: Any, training: Any, classes: Sequence[int]) -> bool:
    """Whether a test (or validation) experience shows what a training experience does: it is the same one, or has the
    same place in its stream and none but the same classes."""
    if test is training:
        return True
    place = _index(test)
    return place is not None and place == part_of(training).experience and set(classes_of(test)) <= set(classes)


def earlier_experience(experience: Any, place: int | None) -> Any | None:
    """The experience at a place of the stream that `experience`, or what it is part of, comes from, if that stream can
    be asked."""
    if place is None:
        return None
    known = _unmasked(experience)
    known = getattr(known, "origin_experience", None) or known
    for stream in (train_stream_beside(known), getattr(_unmasked(known), "_origin_stream", None)):
        with suppress(TypeError, IndexError, AttributeError, KeyError):
            earlier = stream[place]  # type: ignore[index]
            if _index(earlier) == place:
                return earlier
    return None


# Strategies


def experiences_in_training(strategy: Any) -> list[Any]:
    """What a strategy is trained on at a time: one experience, or all that joint training takes together."""
    return list(getattr(strategy, "_experiences", None) or [strategy.experience])


def is_in_training(strategy: Any) -> bool:
    """Whether this is called from within the strategy's `train`, as periodic evaluation is: what a strategy says of
    itself is the same after a training that was interrupted."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code is BaseTemplate.train.__code__ and frame.f_locals.get("self") is strategy:
            return True
        frame = frame.f_back
    return False


def single_last_sample(strategy: Any, arguments: Mapping[str, Any]) -> bool:
    """Whether the last batch of a training epoch holds one sample, given the arguments of `train`."""
    count, size = len(strategy.experience.dataset), strategy.train_mb_size
    return count % size == 1 % size and (count == 1 or not arguments.get("drop_last", False))


def task_labels_in_batch(strategy: Any) -> Tensor | None:
    """The task labels of a strategy's batch, if its data set yields them: also where the experience has lost its own,
    as those of `benchmark_with_validation_stream` have."""
    dataset = strategy.experience.dataset
    shown = [name for name, attribute in dataset._data_attributes.items() if attribute.use_in_getitem]
    if "targets_task_labels" not in shown:
        return None
    return strategy.mbatch[shown.index("targets_task_labels") - len(shown)]


def evaluate_after_experience(strategy: Any) -> None:
    """Have periodic evaluation, if there is any, run once more when the experience is done.

    Avalanche leaves it out where the last epoch was evaluated; but after that epoch a router may have been trained.
    """
    for plugin in strategy.plugins:
        if isinstance(plugin, PeriodicEval):
            plugin.do_final = plugin.eval_every > -1
