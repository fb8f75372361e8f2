"""Text in the place of a replay buffer."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from avalanche.benchmarks.utils import AvalancheDataset, concat_datasets
from avalanche.training.storage_policy import ExemplarsBuffer
from PIL.Image import Image

from .._support.checks import require_flag, require_whole
from ..images.avalanche import (
    Part,
    classes_of,
    earlier_experience,
    indices_by_class,
    part_of,
    raw_images,
    task_labels_of,
)
from ..images.formats import ImageFormat
from ..pair.abilities import CutsPrompts, LoadsLater
from ..pair.loading import Pair, require_pair
from ..pair.output import checked_captions, checked_images
from .caption_memory import CaptionMemory, Prompt
from .captions import Caption
from .origins import ClassNames, Origin, require_class_names
from .recombination import Contexts
from .reservoir import fill

_logger = logging.getLogger("avalanche_clts")


class Regenerated(NamedTuple):
    """An image and what it was made from."""

    prompt: Prompt
    image: Image


class _Key(NamedTuple):
    """What an image depends on, beside the pair."""

    text: str
    seed: int
    size: tuple[int, int]


def _nothing() -> None:
    """In the place of a reference to an experience, where there is none."""


class CaptionBuffer(ExemplarsBuffer):
    """A storage policy that keeps captions, and regenerates images from them when `buffer` is read.

    Stands wherever Avalanche takes a storage policy. `buffer` holds regenerated images only, each in the native size
    and mode of its own experience and behind that experience's own transforms; they are generated when `buffer` is
    first read, and kept until the next captions come or `release` is called.

    The parts into which an online stream splits an experience are captioned as they come, by reservoir sampling
    (Vitter, 1985), so that in the end the captions stand for all of it, and no image was kept meanwhile.

    ```python
    buffer = CaptionBuffer(pair=pair, captions_per_class=5, replay_size=30)
    for experience in benchmark.train_stream:
        buffer.post_adapt(None, experience)  # as a plugin does when an experience has been learnt
    image, target, *_ = buffer.buffer[0]  # regenerated, as the stream would have yielded it
    print(buffer.regenerated[0].prompt.text, target)
    ```

    **Arguments:**

    - pair: writes the captions and turns them back into images.
    - max_size: captions kept at most, in equal parts for all classes seen. None for no limit.
    - captions_per_class: captions kept of each class of each experience. None for no limit.
    - replay_size: images regenerated, in equal parts for every experience. None: `images_per_class`, or, as in any
        buffer of `max_size` samples, one for each caption.
    - images_per_class: images regenerated for each class of each experience, where there is no `replay_size`.
    - class_names: of all classes, by class id. None: taken from the data sets where they have them.
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
        images_per_class: int | None = None,
        class_names: ClassNames | None = None,
        recombine: bool = True,
        seed: int | None = None,
    ) -> None:
        require_pair(pair)
        require_flag("recombine", recombine)
        require_class_names(class_names)
        require_whole("replay_size", replay_size, none="one image a caption")
        require_whole("images_per_class", images_per_class, none="one image a caption")
        require_whole("seed", seed, least=0, none="one drawn at random")
        self.memory = CaptionMemory(max_size=max_size, captions_per_class=captions_per_class)
        super().__init__(max_size if max_size is not None else Unlimited())
        self.pair = pair
        self.replay_size = replay_size
        self.images_per_class = images_per_class
        self.class_names = class_names
        self.recombine = recombine
        # Below 2**31, PyTorch 2.6 draws otherwise than later versions do; below 2**62, as they do.
        self.first_seed = int(torch.randint(2**62, ())) % 2**31 if seed is None else seed
        self.origins: list[Origin] = []  # of the experiences captioned, and of the one that is open
        self.num_experiences = 0  # that are captioned to their end
        self.num_written = 0
        self.num_parts = 0  # of the open experience that are captioned
        self.regenerated: list[Regenerated] = []  # in memory now
        self.seconds = {"captioning": 0.0, "generation": 0.0}
        # What went wrong so far: images of which the captioner said nothing, black images, which is what a safety
        # checker makes of those that it does not let pass, and prompts that the text encoder had no room for.
        self.faults = {"empty_captions": 0, "black_images": 0, "cut_prompts": 0}
        self._seen: dict[int, int] = {}  # samples of each class in the open experience
        self._begun: Callable[[], Any] = _nothing
        # The data set that was captioned last, until the training that it is of ends: a stream makes its experiences
        # anew whenever it is asked for one.
        self._written: Callable[[], Any] = _nothing
        self._unended: Callable[[], Any] = _nothing  # the same, of a training that broke off
        self._part = Part(None)
        self._before: dict[str, Any] = {}
        self._reusable: dict[_Key, Image] = {}
        self._dataset: AvalancheDataset | None = None

    def begin(self, experience: Any) -> Part:
        """Open `experience` before it is learnt: check that it can be captioned, and record what its images are like.

        Raises `TypeError` or `ValueError` if its samples are not images or names are missing, and what loading the
        pair's weights raises: whatever is wrong with them is told before anything is trained.
        """
        if self._unended() is experience.dataset:  # its captions were there, and then something else failed
            self.take_back()
        part, origin = self.part(experience), Origin.of(experience, self.class_names)
        if part.is_first or len(self.origins) == self.num_experiences:
            for of_pair in (self.pair.captioner, self.pair.generator):
                if isinstance(of_pair, LoadsLater):
                    of_pair.load()
            if self._seen:  # the experience before ended without saying so
                self._close()
            self.origins[self.num_experiences :] = [origin]
            self.num_parts = 0
        else:
            self.origins[-1] = self.origins[-1].with_part(origin)
        if part.is_first and origin.names is None and all(known.names is not None for known in self.origins[:-1]):
            _logger.warning(
                "the class names of experience %d are unknown: its captions do not say them, and are not recombined; "
                "give them with class_names=[...], in the order of the class ids",
                self.num_experiences,
            )
        self._restore_transforms(experience)
        self._begun = weakref.ref(experience)
        # Avalanche does not mark the last of parts that divide their experience without a remainder.
        self._part = part._replace(is_last=part.is_last or self.num_parts + 1 == part.parts)
        return self._part

    def part(self, experience: Any) -> Part:
        """Where an experience stands in what was captioned: first is also what goes on with nothing that is known."""
        part = part_of(experience)
        return part._replace(is_first=not (self.origins and part.goes_on_with(self.origins[-1].experience)))

    def post_adapt(self, agent_state: Any, exp: Any) -> None:
        """Caption some images of the experience that has just been learnt, within the budget."""
        if self._begun() is not exp:
            self.begin(exp)
        start = time.perf_counter()
        kept = ("num_experiences", "num_parts", "num_written")
        self._before = {name: getattr(self, name) for name in kept} | {
            "captions": list(self.memory),
            "_seen": dict(self._seen),
        }
        try:
            self._write_captions(exp)
        except BaseException:
            self.take_back()
            raise
        self._begun, self._written = _nothing, weakref.ref(exp.dataset)
        self.num_parts += 1
        if self._part.is_last:
            self._close()
        else:  # most images of the next part are those of this one
            self._reusable = {self._key(made.prompt): made.image for made in self.regenerated}
            self.regenerated, self._dataset = [], None
        self.seconds["captioning"] += time.perf_counter() - start

    def training_begins(self) -> None:
        """A call of `train`, for which plugins say so. Of the one before, where it did not end, the captions that were
        written last are forgotten if what they are of is now begun again."""
        self._unended, self._written = self._written, _nothing

    def training_ends(self) -> None:
        """Nothing is to be forgotten any more."""
        self._unended = self._written = _nothing

    def take_back(self) -> None:
        """Forget the captions that were written last, of an experience which is then to be learnt again."""
        self._unended = self._written = _nothing
        before = dict(self._before)
        self.memory.captions = before.pop("captions")
        for name, value in before.items():
            setattr(self, name, value)
        self.release()

    @property
    def buffer(self) -> AvalancheDataset:
        """The regenerated images with their `targets` and `targets_task_labels`, in the order of `regenerated`; empty
        before the first experience."""
        if self._dataset is None:
            parts: dict[int, list[Regenerated]] = {}
            for made in self.regenerate():
                parts.setdefault(made.prompt.caption.experience, []).append(made)
            self._dataset = concat_datasets(
                [
                    self.origins[experience].dataset([m.image for m in group], [m.prompt.caption for m in group])
                    for experience, group in parts.items()
                ]
            )
        return self._dataset

    @buffer.setter
    def buffer(self, new_buffer: AvalancheDataset) -> None:
        self._dataset = new_buffer

    def regenerate(self) -> list[Regenerated]:
        """The images of the captions in memory, experience by experience; generated if they are not there."""
        if not self.regenerated and len(self.memory) > 0:
            start = time.perf_counter()
            self.regenerated = self._visible(self._images(self._prompts()))
            self._reusable = {}
            self.seconds["generation"] += time.perf_counter() - start
        return self.regenerated

    def release(self) -> None:
        """Forget the regenerated images; the next reader of `buffer` has them generated again."""
        self.regenerated, self._reusable, self._dataset = [], {}, None

    def choose(self, exp: Any) -> list[int]:
        """Indices into the experience's data set of the images that `post_adapt` would caption now."""
        return [index for slots in self._choose(exp).values() for index in slots.values()]

    def resize(self, strategy: Any, new_size: int) -> None:
        """Set how many captions are kept at most."""
        self.memory.resize(new_size)
        self.max_size = new_size
        self.release()

    def class_name(self, caption: Caption) -> str | None:
        """The name of a caption's class, in its own experience; None where it is unknown."""
        names = self.origins[caption.experience].names
        return None if names is None else names.get(caption.target)

    @property
    def prompts(self) -> list[Prompt]:
        """What the images in memory were made from, or else what the next ones will be; none is generated."""
        return [made.prompt for made in self.regenerated] or self._prompts()

    @property
    def format(self) -> ImageFormat | None:
        """Of the newest experience's images; every experience's is in `origins`."""
        return self.origins[-1].format if self.origins else None

    def state_dict(self) -> dict[str, Any]:
        """Everything but the captions, which have a file of their own, and images, of which none is kept."""
        names = ("first_seed", "num_written", "num_experiences", "num_parts", "faults", "seconds", "_seen")
        return {name: getattr(self, name) for name in names} | {"origins": [o.state_dict() for o in self.origins]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        for name, value in state.items():
            setattr(self, name, value)
        self.origins = [Origin.from_state_dict(origin) for origin in state["origins"]]
        self._seen = {int(target): count for target, count in state["_seen"].items()}
        self.release()

    def _close(self) -> None:
        self.num_experiences += 1
        self._seen = {}
        self.release()

    def _restore_transforms(self, experience: Any) -> None:
        """After a checkpoint: the transforms of earlier experiences, from the stream, or else as this one's."""
        for index, origin in enumerate(self.origins):
            if origin.transforms is None:
                earlier = earlier_experience(experience, origin.experience)
                like = earlier is not None and set(origin.classes) <= set(classes_of(earlier))
                if not like:
                    _logger.warning(
                        "experience %d was learnt before the checkpoint and is not in this stream: its images are "
                        "regenerated behind the transforms of the one that follows",
                        index,
                    )
                self.origins[index] = origin.seen_again(earlier if like else experience)

    def _prompts(self) -> list[Prompt]:
        knows_names = any(origin.names is not None for origin in self.origins)
        recombine = self.recombine and knows_names
        rephrase = Contexts(self.memory, self.class_name).borrow if recombine else None
        count = self.replay_size
        if count is None and self.images_per_class is not None and len(self.memory) > 0:
            count = self.images_per_class * len({(c.experience, c.target) for c in self.memory})
        prompts = self.memory.prompts(count, rephrase=rephrase)
        return sorted(prompts, key=lambda prompt: prompt.caption.experience)

    def _images(self, prompts: Sequence[Prompt]) -> list[Regenerated]:
        made = dict(self._reusable)
        missing: dict[tuple[int, int], list[_Key]] = {}
        for key in dict.fromkeys(map(self._key, prompts)):
            if key not in made:
                missing.setdefault(key.size, []).append(key)
        for size, keys in missing.items():  # images of one size are made together
            texts = [key.text for key in keys]
            if isinstance(self.pair.generator, CutsPrompts):
                self.faults["cut_prompts"] += self.pair.generator.cut_prompts(texts)
            images = checked_images(self.pair.generator, texts, [key.seed for key in keys], size)
            made |= zip(keys, images, strict=True)
        return [Regenerated(prompt, made[self._key(prompt)]) for prompt in prompts]

    def _key(self, prompt: Prompt) -> _Key:
        return _Key(prompt.text, prompt.seed, self.origins[prompt.caption.experience].format.size)

    def _visible(self, made: list[Regenerated]) -> list[Regenerated]:
        """The images that show something."""
        visible = [m for m in made if m.image.getbbox() is not None]
        lost = {m.prompt.caption.experience for m in made} - {m.prompt.caption.experience for m in visible}
        if lost:
            raise RuntimeError(
                f"every image regenerated for experience {min(lost)} is black, as after a safety checker; "
                "use captions or a generator that pass it, or load the pipeline without one"
            )
        self.faults["black_images"] += len(made) - len(visible)
        return visible

    def _write_captions(self, exp: Any) -> None:
        by_class = indices_by_class(exp.dataset)
        chosen = self._choose(exp)
        indices = [index for slots in chosen.values() for index in slots.values()]
        targets = [target for target, slots in chosen.items() for _ in slots]
        replaced = [self._of_class(target)[slot] for target, slots in chosen.items() for slot in slots if slot >= 0]
        names = self.origins[-1].names
        known = None if names is None else [names[target] for target in targets]
        texts = checked_captions(self.pair.captioner, raw_images(exp.dataset, indices), known) if indices else []
        texts = self._named_if_empty(texts, known)
        labels = task_labels_of(exp.dataset, indices)
        captions = [
            Caption(text, target, self.num_experiences, label, (self.first_seed + self.num_written + n) % 2**32)
            for n, (text, target, label) in enumerate(zip(texts, targets, labels, strict=True))
            if text
        ]
        self.num_written += len(indices)
        for target, found in by_class.items():
            self._seen[target] = self._seen.get(target, 0) + len(found)
        self.memory.discard(replaced)
        self.memory.add(captions)
        if not any(caption.experience == self.num_experiences for caption in self.memory):
            raise RuntimeError(
                f"the captioner said nothing of any image of experience {self.num_experiences}; "
                "give class_names, which then stand in, or use another captioner"
            )

    def _named_if_empty(self, texts: Sequence[str], names: Sequence[str] | None) -> list[str]:
        """The texts, with the class name in the place of an empty one where it is known."""
        empty = [not text.strip() for text in texts]
        self.faults["empty_captions"] += sum(empty)
        stand_ins = names if names is not None else [""] * len(texts)
        return [name if e else text for text, name, e in zip(texts, stand_ins, empty, strict=True)]

    def _choose(self, exp: Any) -> dict[int, dict[int, int]]:
        """For each class, the samples to caption: index by slot; see `fill`."""
        by_class = indices_by_class(exp.dataset)
        quota = self.memory.quota(by_class)
        # Of its own, so that what is captioned does not depend on what else a strategy draws at random.
        generator = torch.Generator().manual_seed(self.first_seed + self.num_written)
        return {
            target: fill(indices, quota, len(self._of_class(target)), self._seen.get(target, 0), generator)
            for target, indices in by_class.items()
        }

    def _of_class(self, target: int) -> list[Caption]:
        """The captions of a class in the open experience."""
        return [c for c in self.memory if c.experience == self.num_experiences and c.target == target]


class Unlimited(int):
    """The size of a buffer without a limit of its own, which any `mem_size` agrees with.

    Avalanche's `ReplayPlugin` asserts that its `mem_size` is its storage policy's `max_size`, even of a policy whose
    budget is not counted so.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (int, float))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__
