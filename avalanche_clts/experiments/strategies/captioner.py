"""The pair's captioner alone, asked for the class: nothing is learnt, and nothing kept but class names."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from ...images.normalisation import Normalisation, measure_normalisation
from ...memory.mentions import Names
from ...memory.origins import Origin
from ...pair.abilities import HasLikelihoods
from ...pair.captioners import Captioner
from ...pair.prompts import fill
from .one_pass import OnePassModel

_WORD = re.compile(r"\w+")


class AskedCaptioner(OnePassModel):
    """Names the class of an image by what a captioner says of it, among the classes seen so far.

    **Arguments:**

    - captioner: of the pair. Its weights are neither counted nor saved here.
    - num_classes: of the stream.
    """

    def __init__(self, captioner: Captioner, num_classes: int) -> None:
        super().__init__()
        self._captioner = captioner
        self.num_classes = num_classes
        self.names: dict[int, str] = {}  # of the classes seen, by class id
        self._normalisation: Normalisation | None = None
        self._captions: dict[bytes, str] = {}  # by image: each is captioned once
        self._known: dict[bytes, Tensor] = {}  # scores by image, until another class is seen

    @abstractmethod
    def scores_of(self, images: Sequence[Image.Image], captions: Sequence[str]) -> Tensor:
        """Of each image and each class in `names`, in their order: the larger, the likelier.

        **Arguments:**

        - captions: what the captioner says of the images without being told anything.
        """

    def learn(self, experience: Any, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        """Hear the names of the classes; no image is looked at.

        Raises `ValueError` where names are unknown, or the stream does more to its images than normalise.
        """
        names = Origin.of(experience).names
        if names is None:
            raise ValueError("the captioner is asked for classes by their names, which this stream does not know")
        self.names |= names
        self._known = {}
        if self._normalisation is None:
            self._normalisation = measure_normalisation(experience.dataset)

    def kept_bytes(self) -> Mapping[str, int]:
        """The names, as text."""
        return {"captions": len("\n".join(self.names.values()).encode())}

    def forward(self, x: Tensor) -> Tensor:
        """Scores of classes, `(n, num_classes)`; the least of all for a class that was not seen."""
        keys = [blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in x.detach().cpu()]
        new = {key: image for key, image in zip(keys, x.detach().cpu(), strict=True) if key not in self._known}
        if new and self.names:
            images = self._images(torch.stack(list(new.values())))
            self._known.update(zip(new, self.scores_of(images, self._said_of(list(new), images)), strict=True))
        output = torch.full((len(x), self.num_classes), torch.finfo(torch.float32).min)
        if self.names:
            output[:, list(self.names)] = torch.stack([self._known[key] for key in keys])
        return output.to(x.device)

    def _images(self, x: Tensor) -> list[Image.Image]:
        assert self._normalisation is not None
        return [to_pil_image(image.clamp(0, 1)) for image in self._normalisation.undone(x)]

    def _said_of(self, keys: Sequence[bytes], images: Sequence[Image.Image]) -> list[str]:
        new = [i for i, key in enumerate(keys) if key not in self._captions]
        if new:
            said = self._captioner.caption([images[i] for i in new])
            self._captions.update(zip([keys[i] for i in new], said, strict=True))
        return [self._captions[key] for key in keys]


class LikeliestClass(AskedCaptioner):
    """The class whose prompt the captioner finds likeliest for the image.

    A captioner that is told the class in a prompt ("a photo of a {class_name}") is asked in that prompt. Of one that
    finds all words itself, no prompt is its own: it is asked in the words of its caption of the image, where each class
    stands in turn in the place of the class that the caption names; where it names none, in that of the word for which
    a class fits best.
    """

    def scores_of(self, images: Sequence[Image.Image], captions: Sequence[str]) -> Tensor:
        """log p(text | image) of the likeliest text with the class in it."""
        assert isinstance(self._captioner, HasLikelihoods)
        names, known = list(self.names.values()), Names(self.names.values())
        prefix = getattr(self._captioner, "prefix", None)
        if prefix:
            asked = [[fill(prefix, name) for name in names]] * len(images)
        else:
            places = [_places(caption, known) for caption in captions]
            # Where a class fits best is asked with one name, and then with all of them.
            tried = [[_with(c, place, names[0]) for place in p] for c, p in zip(captions, places, strict=True)]
            fits = self._captioner.log_likelihoods(images, tried)
            best = [p[int(row.argmax())] for p, row in zip(places, fits, strict=True)]
            asked = [[_with(c, place, name) for name in names] for c, place in zip(captions, best, strict=True)]
        return torch.stack([torch.from_numpy(row) for row in self._captioner.log_likelihoods(images, asked)])


class NamedClass(AskedCaptioner):
    """The class that the captioner's caption names first: the first class seen where it names none."""

    def scores_of(self, images: Sequence[Image.Image], captions: Sequence[str]) -> Tensor:
        """1 for the class named, 0 for the others."""
        known = Names(self.names.values())
        column = {known.key(name): i for i, name in enumerate(self.names.values())}
        scores = torch.zeros(len(captions), len(self.names))
        for row, caption in zip(scores, captions, strict=True):
            mentions = known.mentions(caption)
            if mentions:
                row[column[mentions[0].name]] = 1.0
        return scores


def _places(caption: str, known: Names) -> list[tuple[int, int]]:
    """Where a class name may stand in the caption, as start and end: in the place of the class that it names, or else
    of any word of it; in one without any word, alone."""
    mentions = known.mentions(caption)
    return [(m.start, m.end) for m in mentions[:1]] or [m.span() for m in _WORD.finditer(caption)] or [(0, 0)]


def _with(caption: str, place: tuple[int, int], name: str) -> str:
    """The caption with the name in that place."""
    return caption[: place[0]] + name + caption[place[1] :]
