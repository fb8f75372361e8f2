"""Text in the place of a replay buffer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from avalanche.benchmarks import CLExperience
from avalanche.benchmarks.utils import AvalancheDataset, TransformGroups
from avalanche.training.storage_policy import ExemplarsBuffer
from PIL.Image import Image

from .._support.checks import require_flag, require_names, require_one_of, require_whole
from ..images.avalanche import ImageFormat, as_stream_dataset, class_names, image_format, raw_images, stream_transforms
from ..pair.loading import Pair, require_pair
from ..pair.output import checked_images
from .caption_memory import CaptionMemory, Prompt
from .captions import Caption
from .recombination import Contexts
from .selection import Selection, most_diverse

_CANDIDATES = 1000  # images of a class that "diverse" chooses from, at most


class CaptionBuffer(ExemplarsBuffer):
    """A storage policy that keeps captions, and regenerates images from them when `buffer` is read.

    Stands wherever Avalanche takes a storage policy. `buffer` holds regenerated images only, in the native size and
    mode of the stream and behind the stream's own transforms; they are generated when `buffer` is first read, and kept
    until the next captions come or `release` is called.

    **Arguments:**

    - pair: writes the captions and turns them back into images.
    - max_size: captions kept at most, in equal parts for all classes seen. None for no limit.
    - captions_per_class: captions kept of each class of each experience. None for no limit.
    - replay_size: images regenerated, in equal parts for every experience. None: one for each caption.
    - class_names: of all classes, by class id. None: taken from the data set where it has them.
    - selection: of the images to caption, within each class: "random", or "diverse", those nearest to the centres of
        k-means on the captioner's features.
    - recombine: whether a caption that serves several times borrows, for every image but its first, the words of
        another caption, with that caption's class name exchanged for its own; see `Contexts`. Takes effect where class
        names are known and captions say them.
    - seed: of the first caption's noise; the following count up. None: drawn from torch's global generator.
    """

    def __init__(
        self,
        *,
        pair: Pair,
        max_size: int | None = None,
        captions_per_class: int | None = None,
        replay_size: int | None = None,
        class_names: Sequence[str] | None = None,
        selection: Selection = "random",
        recombine: bool = True,
        seed: int | None = None,
    ) -> None:
        require_pair(pair)
        require_one_of("selection", selection, Selection)
        require_flag("recombine", recombine)
        require_names("class_names", class_names)
        require_whole("replay_size", replay_size, none="one image a caption")
        require_whole("seed", seed, least=0, none="one drawn at random")
        if selection == "diverse" and not hasattr(pair.captioner, "features"):
            raise ValueError(
                "selection is 'diverse', which needs a captioner with features(images); "
                f"{type(pair.captioner).__name__} has none, use selection='random'"
            )
        self.memory = CaptionMemory(max_size=max_size, captions_per_class=captions_per_class)
        super().__init__(max_size if max_size is not None else 0)
        self.pair = pair
        self.replay_size = replay_size
        self.class_names = class_names
        self.selection = selection
        self.recombine = recombine
        self.first_seed = int(torch.randint(2**31, ())) if seed is None else seed
        self.num_written = self._num_written_before = 0  # the latter: before the newest experience
        self.num_experiences = 0
        self.format: ImageFormat | None = None
        self.seconds = {"captioning": 0.0, "generation": 0.0}
        # What went wrong so far: images of which the captioner said nothing, and black images, which is what a safety
        # checker makes of those that it does not let pass.
        self.faults = {"empty_captions": 0, "black_images": 0}
        self._transforms: TransformGroups | None = None
        self._yields_task_labels = True
        self._known_names: Sequence[str] | None = None
        self._images: list[Image] = []
        self._prompts: list[Prompt] = []
        self._dataset: AvalancheDataset | None = None

    def prepare(self, experience: CLExperience) -> None:
        """Check that `experience` can be captioned, and learn its image format and transforms.

        Raises `TypeError` or `ValueError`, before any training, if its samples are not images or names are missing.
        """
        dataset = experience.dataset
        self.format = image_format(dataset)
        self._known_names = self._names(dataset, experience.classes_in_this_experience)
        self._transforms = stream_transforms(dataset)
        self._yields_task_labels = hasattr(dataset, "targets_task_labels")
        self._dataset = None

    def post_adapt(self, agent_state: Any, exp: CLExperience) -> None:
        """Caption some images of the experience that has just been learnt, within the budget."""
        self.prepare(exp)
        self.release()
        start = time.perf_counter()
        self.memory.add(self._write_captions(exp))
        self.num_experiences += 1
        self.seconds["captioning"] += time.perf_counter() - start

    def take_back(self) -> None:
        """Forget the captions of the newest experience, which is then to be learnt again."""
        self.num_experiences -= 1
        self.memory.captions = [caption for caption in self.memory if caption.experience < self.num_experiences]
        self.num_written = self._num_written_before
        self.release()

    @property
    def buffer(self) -> AvalancheDataset:
        """The regenerated images with their `targets` and `targets_task_labels`; empty before the first experience."""
        if self._dataset is None:
            if len(self.memory) == 0 or self._transforms is None or self.format is None:
                return AvalancheDataset([])
            captions = [prompt.caption for prompt in self.prompts]
            self._dataset = as_stream_dataset(
                self.images,
                [caption.target for caption in captions],
                [caption.task_label for caption in captions],
                format=self.format,
                transforms=self._transforms,
                yields_task_labels=self._yields_task_labels,
            )
        return self._dataset

    @property
    def images(self) -> list[Image]:
        """The regenerated images as the generator made them, one for each of `prompts`."""
        if not self._images and len(self.memory) > 0:
            start = time.perf_counter()
            prompts = self.memory.prompts(self.replay_size, rephrase=self._rephrase())
            size = self.format.size if self.format else None
            images = checked_images(self.pair.generator, [p.text for p in prompts], [p.seed for p in prompts], size)
            self._keep_visible(prompts, images)
            self.seconds["generation"] += time.perf_counter() - start
        return self._images

    @property
    def is_generated(self) -> bool:
        """Whether the regenerated images are in memory now."""
        return bool(self._images)

    @property
    def prompts(self) -> list[Prompt]:
        """What `images` were made from."""
        return self._prompts if self.images else []

    def release(self) -> None:
        """Forget the regenerated images; the next reader of `buffer` has them generated again."""
        self._images, self._prompts, self._dataset = [], [], None

    def chosen(self, exp: CLExperience) -> list[int]:
        """Indices into the experience's data set of the images that `post_adapt` would caption now."""
        return self._choose(exp.dataset, exp.classes_in_this_experience)

    def resize(self, strategy: Any, new_size: int) -> None:
        """Set how many captions are kept at most."""
        self.memory.resize(new_size)
        self.max_size = new_size
        self.release()

    def _keep_visible(self, prompts: list[Prompt], images: list[Image]) -> None:
        """Keep the images that show something, and their prompts."""
        visible = [i for i, image in enumerate(images) if image.getbbox() is not None]
        lost = {p.caption.experience for p in prompts} - {prompts[i].caption.experience for i in visible}
        if lost:
            raise RuntimeError(
                f"every image regenerated for experience {min(lost)} is black, as after a safety checker; "
                "use captions or a generator that pass it, or load the pipeline without one"
            )
        self._prompts, self._images = [prompts[i] for i in visible], [images[i] for i in visible]
        self.faults["black_images"] += len(images) - len(visible)

    def _rephrase(self) -> Callable[[Caption, int], str] | None:
        names = self._known_names
        return Contexts(self.memory, names).borrow if self.recombine and names is not None else None

    def _write_captions(self, exp: CLExperience) -> list[Caption]:
        dataset = exp.dataset
        names = self._names(dataset, exp.classes_in_this_experience)
        indices = self.chosen(exp)
        targets = [int(dataset.targets[i]) for i in indices]
        task_labels = getattr(dataset, "targets_task_labels", None)
        texts = self.pair.captioner.caption(
            raw_images(dataset, indices), None if names is None else [names[target] for target in targets]
        )
        texts = self._without_silence(texts, None if names is None else [names[target] for target in targets])
        captions = [
            Caption(
                text=text,
                target=target,
                experience=self.num_experiences,
                task_label=0 if task_labels is None else int(task_labels[i]),
                seed=(self.first_seed + self.num_written + n) % 2**32,
            )
            for n, (i, target, text) in enumerate(zip(indices, targets, texts, strict=True))
            if text
        ]
        self._num_written_before = self.num_written
        self.num_written += len(indices)
        if not captions:
            raise RuntimeError(
                f"the captioner said nothing of any image of experience {self.num_experiences}; "
                "give class_names, which then stand in, or use another captioner"
            )
        return captions

    def _without_silence(self, texts: Sequence[str], names: Sequence[str] | None) -> list[str]:
        """The texts, with the class name in the place of an empty one where it is known."""
        silent = [not text.strip() for text in texts]
        self.faults["empty_captions"] += sum(silent)
        stand_ins = names if names is not None else [""] * len(texts)
        return [name if s else text for text, name, s in zip(texts, stand_ins, silent, strict=True)]

    def _choose(self, dataset: AvalancheDataset, classes: Sequence[int]) -> list[int]:
        """Indices of the images to caption: as many of each class as the budget holds."""
        quota = self.memory.quota(classes)
        by_class = dataset.targets.val_to_idx
        # Of its own, so that what is captioned does not depend on what else a strategy draws at random.
        generator = torch.Generator().manual_seed(self.first_seed + self.num_written)
        chosen: list[int] = []
        for target in sorted(by_class):
            candidates = by_class[target]
            shuffled = [int(candidates[i]) for i in torch.randperm(len(candidates), generator=generator).tolist()]
            if self.selection == "diverse":
                some = shuffled[: max(quota, _CANDIDATES)]
                features = self.pair.captioner.features(raw_images(dataset, some))  # type: ignore[attr-defined]
                shuffled = [some[i] for i in most_diverse(features, quota, seed=self.first_seed % 2**32)]
            chosen += shuffled[:quota]
        return chosen

    def _names(self, dataset: AvalancheDataset, classes: Sequence[int]) -> Sequence[str] | None:
        names = self.class_names if self.class_names is not None else class_names(dataset)
        if names is not None and len(names) <= max(classes):
            raise ValueError(
                f"class_names has {len(names)} names, but this experience holds class {max(classes)}; "
                "give one name for each class of the stream, in the order of the class ids"
            )
        return names
