"""A captioner asked for the class of an image, by the class names that it has heard."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from .images.keys import image_keys
from .images.normalisation import Normalisation, measure_normalisation
from .memory.mentions import Names
from .memory.origins import ClassNames, Origin
from .pair.abilities import HasLikelihoods
from .pair.captioners import Captioner
from .pair.prompts import agreeing, fill

_WORD = re.compile(r"\w+")


class AskedCaptioner(ABC):
    """Scores the classes seen so far by what a captioner says of an image.

    **Arguments:**

    - captioner: of the pair. Its weights are neither counted nor saved here.
    - class_names: of all classes, by class id. None: taken from the data sets.
    """

    scores_are_apart = False  # whether a class's score is the same beside whichever other classes

    def __init__(self, captioner: Captioner, class_names: ClassNames | None = None) -> None:
        self.captioner = captioner
        self._class_names = class_names
        self._normalisation: Normalisation | None = None
        self.names: dict[int, str] = {}  # of the classes seen, by class id
        self._captions: dict[bytes, str] = {}  # by image: each is captioned once
        self._known: dict[bytes, Tensor] = {}  # scores by image, of the first names or all

    @abstractmethod
    def scores_of(self, images: Mapping[bytes, Image.Image], names: Sequence[str]) -> Tensor:
        """Of each image, by its key, and each name: the larger, the likelier; `(number of images, number of names)`."""

    def hear(self, experience: Any) -> None:
        """Hear the names of an experience's classes; of its images, what the stream does to them is measured.

        Raises `ValueError` where names are unknown, or a class has had another one, or the stream does more to its
        images than normalise.
        """
        names = Origin.of(experience, self._class_names).names
        if names is None:
            raise ValueError(
                "the captioner is asked for classes by their names, which this stream does not know; give class_names"
            )
        for target, name in names.items():
            if self.names.get(target, name) != name:
                raise ValueError(
                    f"class {target} is {self.names[target]!r} in one experience and {name!r} in another, and the "
                    "captioner is asked for classes whatever the task label; give each class an id of its own"
                )
        if not self.scores_are_apart and not names.keys() <= self.names.keys():
            self._known = {}
        self.names |= names
        self._normalisation = measure_normalisation(experience.dataset, known=self._normalisation)

    def scores(self, x: Tensor) -> Tensor:
        """Of what the stream yields, `(n, channels, height, width)`, and each class in `names`, in their order."""
        if not len(x):
            return torch.empty(0, len(self.names), device=x.device)
        keys = image_keys(x)
        asked: dict[int, dict[bytes, Tensor]] = defaultdict(dict)  # by how many names an image was asked for already
        for key, image in zip(keys, x.detach().cpu(), strict=True):
            if len(known := self._known.get(key, ())) < len(self.names):
                asked[len(known)][key] = image
        for count, images in asked.items():
            new = self.scores_of(self._as_images(images), list(self.names.values())[count:])
            for key, row in zip(images, new, strict=True):
                self._known[key] = torch.cat([self._known[key], row]) if count else row
        return torch.stack([self._known[key] for key in keys]).to(x.device)

    def captions_of(self, images: Mapping[bytes, Image.Image]) -> list[str]:
        """What the captioner says of images without being told anything."""
        new = [key for key in images if key not in self._captions]
        if new:
            self._captions.update(zip(new, self.captioner.caption([images[key] for key in new]), strict=True))
        return [self._captions[key] for key in images]

    def kept_bytes(self) -> Mapping[str, int]:
        """The names, as text; see `footprint`."""
        return {"captions": len("\n".join(self.names.values()).encode())}

    def state_dict(self) -> dict[str, Any]:
        """Names, and how images are normalised."""
        normalisation = self._normalisation or Normalisation()
        return {
            "names": {str(target): name for target, name in self.names.items()},
            "normalisation": normalisation.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.names = {int(target): name for target, name in state["names"].items()}
        self._known = {}
        if self.names:
            self._normalisation = Normalisation.of(state["normalisation"])

    def _as_images(self, images: Mapping[bytes, Tensor]) -> dict[bytes, Image.Image]:
        assert self._normalisation is not None
        undone = self._normalisation.undone(torch.stack(list(images.values()))).float().clamp(0, 1)
        octets = (255 * undone).round().byte()
        return {key: to_pil_image(image) for key, image in zip(images, octets, strict=True)}


class LikeliestClass(AskedCaptioner):
    """How likely the captioner finds a class's prompt for the image.

    A captioner that is told the class in a prompt ("a photo of a {class_name}") is asked in that prompt. Of one that
    finds all words itself, no prompt is its own: it is asked in the words of its caption of the image, where each class
    stands in turn in the place of the class that the caption names; where it names none, in that of the word for which
    a class fits best.

    Raises `TypeError` for a captioner without likelihoods.
    """

    def __init__(self, captioner: Captioner, class_names: ClassNames | None = None) -> None:
        super().__init__(captioner, class_names)
        if not isinstance(captioner, HasLikelihoods):
            raise TypeError(
                f"the pair's captioner is a {type(captioner).__name__}, which does not say how likely it finds a text; "
                "give a pair whose captioner has log_likelihoods, such as BLIP"
            )
        self._asks = captioner
        prefix: str | None = getattr(captioner, "prefix", None)
        # One without a place for the class would ask for all of them in the same words.
        self._prefix = prefix if prefix and fill(prefix, "a") != fill(prefix, "b") else None
        self.scores_are_apart = self._prefix is not None

    def scores_of(self, images: Mapping[bytes, Image.Image], names: Sequence[str]) -> Tensor:
        """log p(text | image) of the likeliest text with the class in it."""
        if self._prefix is not None:
            asked = [[fill(self._prefix, name) for name in names]] * len(images)
        else:
            asked = self._in_its_own_words(images, names)
        return torch.stack([torch.from_numpy(row) for row in self._asks.log_likelihoods(list(images.values()), asked)])

    def _in_its_own_words(self, images: Mapping[bytes, Image.Image], names: Sequence[str]) -> list[list[str]]:
        """Its caption of each image, with each of the names in it."""
        captions, known = self.captions_of(images), Names(names)
        places = [_places(caption, known) for caption in captions]
        # Where a class fits best is asked with one name, and then with all of them.
        tried = [[_with(c, place, names[0]) for place in p] for c, p in zip(captions, places, strict=True)]
        fits = self._asks.log_likelihoods(list(images.values()), tried)
        best = [p[int(row.argmax())] for p, row in zip(places, fits, strict=True)]
        return [[_with(c, place, name) for name in names] for c, place in zip(captions, best, strict=True)]


def _places(caption: str, known: Names) -> list[tuple[int, int]]:
    """Where a class name may stand in the caption, as start and end: in the place of the class that it names, or else
    of any word of it; in one without any word, alone."""
    mentions = known.mentions(caption)
    return [(m.start, m.end) for m in mentions[:1]] or [m.span() for m in _WORD.finditer(caption)] or [(0, 0)]


def _with(caption: str, place: tuple[int, int], name: str) -> str:
    """The caption with the name in that place, after the article that suits it."""
    return agreeing(caption[: place[0]], name) + name + caption[place[1] :]
