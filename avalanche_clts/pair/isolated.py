"""Loading a checkpoint without touching what belongs to the caller."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging


@contextmanager
def isolated_loading() -> Iterator[None]:
    """Within this context transformers and diffusers show no progress bars; global random states are put back after it.

    These are PyTorch's on the CPU, NumPy's and Python's: when a pair is loaded changes nothing else in an experiment.
    """
    libraries = [lib for lib in (diffusers_logging, transformers_logging) if lib.is_progress_bar_enabled()]
    for library in libraries:
        library.disable_progress_bar()
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        for library in libraries:
            library.enable_progress_bar()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Within this context transformers and diffusers log errors alone: they warn of weights that do not fit, at length,
    which `require_all_weights` raises as an error of one sentence."""
    libraries = (diffusers_logging, transformers_logging)
    before = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, verbosity in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
