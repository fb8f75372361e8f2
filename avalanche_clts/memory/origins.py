"""What each experience's images were like, so that what is regenerated of it becomes like them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from avalanche.benchmarks.utils import AvalancheDataset, TransformGroups
from PIL import Image

from .._support.checks import require_names
from ..images.avalanche import (
    SampleLayout,
    as_stream_dataset,
    class_names,
    classes_of,
    indices_by_class,
    part_of,
    sample_layout,
    stream_transforms,
    task_labels_of_experience,
)
from ..images.consistency import consistent_format
from ..images.formats import ImageFormat, common_format
from ..images.names import class_name_of
from ..pair.prompts import words_of
from ..streams.orders import num_classes
from .captions import Caption

ClassNames = Sequence[str] | Mapping[int, str]


@dataclass(frozen=True)
class Origin:
    """The experience that captions come from. It speaks for itself: nothing of it is read off a later one.

    **Arguments:**

    - experience: its place in its stream. None: it has none.
    - format: of its images before transforms.
    - classes, task_labels: of its samples.
    - names: of its classes, by class id. None: unknown.
    - transforms: between images and what the stream yields. None: after a checkpoint, until the stream is seen again.
    - layout: of its samples.
    """

    experience: int | None
    format: ImageFormat
    classes: tuple[int, ...]
    task_labels: tuple[int, ...]
    names: dict[int, str] | None
    transforms: TransformGroups | None
    layout: SampleLayout

    @classmethod
    def of(cls, experience: Any, class_names: ClassNames | None = None) -> Origin:
        """Read it off an experience.

        **Arguments:**

        - class_names: the user's, by class id. None: those that the data set knows.

        Raises `TypeError` or `ValueError` if its samples are not images, if its transforms would make something else of
        regenerated ones, or if a class has no name among `class_names`.
        """
        dataset = experience.dataset
        if len(dataset) == 0:
            raise ValueError("this experience holds no samples; leave it out of the stream")
        firsts = [indices[0] for indices in indices_by_class(dataset).values()]
        classes = classes_of(experience)
        transforms = stream_transforms(dataset)
        return cls(
            experience=part_of(experience).experience,
            format=consistent_format(dataset, transforms, also=firsts),
            classes=classes,
            task_labels=task_labels_of_experience(experience),
            names=_names(dataset, classes, class_names),
            transforms=transforms,
            layout=sample_layout(dataset),
        )

    def with_part(self, part: Origin) -> Origin:
        """Itself with another part of the same experience."""
        names = None if self.names is None or part.names is None else self.names | part.names
        return replace(
            self,
            format=common_format([self.format, part.format]),
            classes=tuple(sorted({*self.classes, *part.classes})),
            task_labels=tuple(sorted({*self.task_labels, *part.task_labels})),
            names=names,
            transforms=part.transforms,
            layout=part.layout,
        )

    def dataset(self, images: Sequence[Image.Image], captions: Sequence[Caption]) -> AvalancheDataset:
        """The images as this experience would have yielded them: in its format, through its transforms."""
        if self.transforms is None:
            raise RuntimeError(
                "the transforms of this experience are not known after a checkpoint, until training goes on; "
                "train the next experience first"
            )
        return as_stream_dataset(
            images,
            [caption.target for caption in captions],
            [caption.task_label for caption in captions],
            format=self.format,
            transforms=self.transforms,
            layout=self.layout,
        )

    def state_dict(self) -> dict[str, Any]:
        """What of it can be written down; transforms are code, and are found in the stream again."""
        return {
            "experience": self.experience,
            "format": asdict(self.format),
            "classes": list(self.classes),
            "task_labels": list(self.task_labels),
            "names": self.names,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Origin:
        """An origin without transforms, from what `state_dict` wrote."""
        format = ImageFormat(**{**state["format"], "size": tuple(state["format"]["size"])})
        names = None if state["names"] is None else {int(k): v for k, v in state["names"].items()}
        classes, task_labels = tuple(state["classes"]), tuple(state["task_labels"])
        return cls(state["experience"], format, classes, task_labels, names, None, SampleLayout())

    def seen_again(self, experience: Any) -> Origin:
        """Itself with the transforms of its experience, or of one like it."""
        dataset = experience.dataset
        return replace(self, transforms=stream_transforms(dataset), layout=sample_layout(dataset))


def require_class_names(value: Any) -> None:
    """Raise `TypeError` unless `value` is None, a sequence of texts, or a mapping of class ids to texts."""
    if isinstance(value, Mapping):
        if not all(isinstance(k, int) and isinstance(v, str) for k, v in value.items()):
            raise TypeError(
                f"class_names is {value!r}; a mapping must go from class ids to texts, such as {{0: 'cat'}}"
            )
        return
    require_names("class_names", value)


def names_in_words(dataset: AvalancheDataset) -> dict[int, str] | None:
    """The names of a data set's classes as prompts say them, by class id; None where it does not know them."""
    return class_names(dataset, words_of)


def names_of_classes(benchmark: Any) -> list[str]:
    """The names of a benchmark's classes as prompts say them, in the order of class ids; ids where it knows none."""
    names: dict[int, str] = {}
    for experience in benchmark.train_stream:
        names |= names_in_words(experience.dataset) or {}
    return [names.get(label, str(label)) for label in range(num_classes(benchmark))]


def _names(dataset: AvalancheDataset, classes: Sequence[int], given: ClassNames | None) -> dict[int, str] | None:
    if given is None:
        return names_in_words(dataset)
    names = {target: class_name_of(given, target) for target in classes}
    missing = [target for target, name in names.items() if name is None]
    if missing:
        raise ValueError(
            f"class_names has {len(given)} names, but this experience holds class {max(missing)}; "
            "give one name for each class of the stream, in the order of the class ids"
        )
    return {target: name for target, name in names.items() if name is not None}
