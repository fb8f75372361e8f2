"""One pair's work spread over the processes that `accelerate launch` starts: several GPUs, several machines."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from PIL.Image import Image

from .abilities import offer_abilities_of
from .captioners import Captioner
from .generators import Generator
from .loading import Pair
from .output import checked_captions, checked_images

if TYPE_CHECKING:
    from accelerate import PartialState

Result = TypeVar("Result")


class ProcessLostError(RuntimeError):
    """Another process of this run has ended before its work was done."""


def spread(pair: Pair) -> Pair:
    """A pair whose captions and images are made by all processes together, each its share; every process gets them all,
    in order, as one process alone would.

    Every process must ask for the same at the same time, as it does where all run the same script. Seeds alone decide
    an image's noise, so the images do not depend on how many processes there are. With one process, the pair itself.
    """
    if num_processes() == 1:
        return pair
    return Pair(_SpreadCaptioner(pair.captioner), _SpreadGenerator(pair.generator))


def num_processes() -> int:
    """How many processes `accelerate launch` (or `torchrun`) started; 1 without them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def device_of_process(device: str) -> str:
    """`device`, and where that is "cuda" and there are several processes, the GPU of this one."""
    if device == "cuda" and num_processes() > 1:
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return device


def share_of(count: int) -> list[int]:
    """The indices that this process works on, of `count` items; those of the first process come first."""
    state = _state()
    with state.split_between_processes(list(range(count))) as mine:
        # Before its version 1.14, accelerate gives the last item to processes for which there is none, too.
        return list(mine) if state.process_index < count else []


def is_first_process() -> bool:
    """Whether this is the process that speaks for all."""
    return num_processes() == 1 or _state().is_main_process


def wait_for_everyone() -> None:
    """Return once every process has come here. Raises `ProcessLostError` if one never will."""
    if num_processes() > 1:
        _together(lambda: _state().wait_for_everyone())


class _Spread:
    """All that the part offers, but spread; what is not spread every process does for itself."""

    def __init__(self, part: Any) -> None:
        self._part = part
        offer_abilities_of(part, self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._part, name)


class _SpreadCaptioner(_Spread):
    _part: Captioner

    def caption(self, images: Sequence[Image], class_names: Sequence[str] | None = None) -> list[str]:
        def work(mine: Sequence[int]) -> list[str]:
            names = None if class_names is None else [class_names[i] for i in mine]
            return checked_captions(self._part, [images[i] for i in mine], names)

        return _gathered(len(images), work)


class _SpreadGenerator(_Spread):
    _part: Generator

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image]:
        return self._generate(prompts, seeds, None)

    def generate_sized(self, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int]) -> list[Image]:
        """Small images alone travel from process to process."""
        return self._generate(prompts, seeds, size)

    def _generate(self, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int] | None) -> list[Image]:
        if len(prompts) != len(seeds):
            raise ValueError(f"prompts and seeds must be as many: {len(prompts)} prompts, {len(seeds)} seeds")
        return _gathered(
            len(prompts),
            lambda mine: checked_images(self._part, [prompts[i] for i in mine], [seeds[i] for i in mine], size),
        )


def _gathered(count: int, work: Callable[[Sequence[int]], list[Result]]) -> list[Result]:
    """What all processes make of their shares, in the order of the items."""
    from accelerate.utils import gather_object

    mine = share_of(count)
    made = work(mine) if mine else []
    everyone: list[Result] = _together(lambda: gather_object(made))
    return everyone


def _together(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except RuntimeError as error:
        raise ProcessLostError(
            f"another of the {num_processes()} processes of this run has ended ({str(error).splitlines()[0]}); "
            "see its output, and start the run again: finished work is kept"
        ) from error


def _state() -> PartialState:
    # The processes talk to each other over the CPU where there is no GPU, and only if there are several.
    import torch
    from accelerate import PartialState

    _leave_at_exit()
    return PartialState(cpu=not torch.cuda.is_available())


@cache
def _leave_at_exit() -> None:
    atexit.register(_leave)


def _leave() -> None:
    """A process that ends while gloo's threads are still there is now and then aborted by them. NCCL's group is left
    to torch: to leave that may mean to wait for a process that is lost."""
    from torch import distributed

    if distributed.is_initialized() and distributed.get_backend() == "gloo":
        distributed.destroy_process_group()
