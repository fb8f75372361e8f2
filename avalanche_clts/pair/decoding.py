"""How a captioner goes from word to word: greedily, by beams, or by chance that is the same every time."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL.Image import Image

from .._support.checks import require_whole

if TYPE_CHECKING:
    import torch

# A word, or two to four, three or more times in a row.
_LOOP = re.compile(r"(?<!\w)(\w+(?:\W+\w+){0,3}?)(?:\W+\1(?!\w)){2,}", re.IGNORECASE)


class Decoding(NamedTuple):
    """The next word of a caption, every time.

    **Arguments:**

    - num_beams: captions that are followed up at a time, of which the likeliest is taken. 1: greedily.
    - top_p: words are drawn from the likeliest that have this probability together (Holtzman et al., "The Curious Case
        of Neural Text Degeneration", ICLR 2020). None: the likeliest is taken.
    - seed: of what is drawn.
    - min_new_tokens: before which a caption does not end.
    - repetition_penalty: by which words that were said get less likely (Keskar et al., "CTRL", 2019). 1: none.
    """

    num_beams: int = 1
    top_p: float | None = None
    seed: int = 0
    min_new_tokens: int = 0
    repetition_penalty: float = 1.0

    def check(self, max_new_tokens: int) -> None:
        """Raise `TypeError` or `ValueError` for what cannot be."""
        require_whole("num_beams", self.num_beams)
        require_whole("seed", self.seed, least=0)
        require_whole("min_new_tokens", self.min_new_tokens, least=0)
        if self.min_new_tokens > max_new_tokens:
            raise ValueError(
                f"min_new_tokens is {self.min_new_tokens} and max_new_tokens {max_new_tokens}; it cannot be more"
            )
        if self.top_p is not None and not (isinstance(self.top_p, (int, float)) and 0 < self.top_p <= 1):
            raise ValueError(f"top_p is {self.top_p!r}; it must be more than 0 and at most 1, or None to draw nothing")
        if self.top_p is not None and self.num_beams > 1:
            raise ValueError(
                f"top_p is {self.top_p} and num_beams {self.num_beams}; captions are drawn or the likeliest is looked "
                "for: give one of the two"
            )
        if not (isinstance(self.repetition_penalty, (int, float)) and self.repetition_penalty > 0):
            raise ValueError(f"repetition_penalty is {self.repetition_penalty!r}; it must be above 0, and 1 is none")

    def seeds(self, images: Sequence[Image]) -> list[int]:
        """Of each image, its own, by what it shows: not by where it stands in which batch."""
        return [zlib.crc32(image.tobytes(), self.seed % 2**32) for image in images]

    def arguments(self, seeds: Sequence[int], room: int) -> dict[str, Any]:
        """What `generate` is given: those that change nothing are left out.

        **Arguments:**

        - seeds: of the images of the batch.
        - room: for new tokens.
        """
        chosen: dict[str, Any] = {"num_beams": self.num_beams, "do_sample": False}
        if self.min_new_tokens > 0:
            chosen["min_new_tokens"] = min(self.min_new_tokens, room)
        if self.repetition_penalty != 1:
            chosen["repetition_penalty"] = float(self.repetition_penalty)
        if self.top_p is not None:
            chosen["logits_processor"] = [_Nucleus(self.top_p, seeds)]
        return chosen


class _Nucleus:
    """Makes the drawn token the likeliest, so that each row is drawn by its own random numbers."""

    def __init__(self, top_p: float, seeds: Sequence[int]) -> None:
        self.top_p = top_p
        self._random = [np.random.RandomState(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch

        ordered, tokens = scores.float().softmax(-1).sort(stable=True, dim=-1, descending=True)
        upto = ordered.cumsum(-1)
        # A token belongs to the nucleus if those before it have not yet the probability asked for.
        nucleus = ((upto - ordered) < self.top_p).sum(-1, keepdim=True) - 1
        drawn = torch.tensor([[random.random_sample()] for random in self._random], dtype=upto.dtype)
        share = drawn.to(upto.device) * upto.gather(-1, nucleus)
        position = torch.minimum((upto <= share).sum(-1, keepdim=True), nucleus)
        return torch.full_like(scores, -torch.inf).scatter(-1, tokens.gather(-1, position), 0.0)


def without_loops(text: str) -> str:
    """The text, with a word or a phrase of up to four words that comes three or more times in a row said once."""
    while (shorter := _LOOP.sub(r"\1", text)) != text:
        text = shorter
    return text
