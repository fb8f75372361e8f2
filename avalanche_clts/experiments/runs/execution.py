"""Runs of a comparison, one after the other, in several processes, or wherever an executor has them done."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image

from ..._support.console import Verbosity, begin, detail, set_verbosity, tell
from ..._support.processes import end_with_parent
from ...loggers import WandBRuns
from ...pair.image_cache import CachedGenerator
from ...pair.loading import Pair, load_pair
from ...streams.named import Stream
from ..experiment import Experiment
from ..rows import Results
from .elsewhere import Origin, as_at, this_machine
from .lock import alone, require_still_there
from .runner import run

_OF_A_RUN = "in the run of"  # begins the note on an error that a run has raised
_NAMED_AT_ONCE = 3  # runs in progress, in a line


@dataclass(frozen=True)
class Task:
    """One run, as another process can be told of it.

    **Arguments:**

    - experiment: how it is run.
    - stream: the experiment's, with the folder of downloaded data.
    - tensorboard: folder of the event files. None: there are none.
    - wandb: where it is logged on Weights & Biases. None: nowhere.
    - clts: the finished CLTS run on the same stream and seed, for the strategies whose budget depends on it.
    - images: folder of images to take from the last run that made them; see `CachedGenerator`. None: every run
        generates its own, as a run that is timed must.
    - features: database of the features of the stream's images. None: every run computes them.
    - unfinished: folder of the checkpoints that an interrupted run goes on from. None: it starts anew.
    - kept: folder for the trained strategy, if it keeps captions. None: it is not kept.
    """

    experiment: Experiment
    strategy: str
    seed: int
    stream: Stream
    tensorboard: Path | None = None
    wandb: WandBRuns | None = None
    clts: Results | None = None
    images: Path | None = None
    features: Path | None = None
    unfinished: Path | None = None
    kept: Path | None = None

    @property
    def label(self) -> str:
        """Strategy and seed, for people."""
        return f"{self.strategy}, seed {self.seed}"

    @property
    def is_timed(self) -> bool:
        """Whether its seconds are its own: those of a run that takes images from another are not."""
        return self.images is None


def execute(
    tasks: deque[Task],
    *,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Iterator[tuple[Task, Results]]:
    """Take the tasks and yield each with its results as it is finished, in any order.

    When one fails, no other is begun, but by an executor that was given it already; those that run are let finish and
    yielded, and then its error is raised.

    **Arguments:**

    - tasks: emptied. What is put there before the next results are asked for is run as well.
    - jobs: runs at a time. None: one, in this process, or, with an executor, all of them: it has its own queue.
    - executor: has the runs done, see `perform_elsewhere`. None: processes of this machine, each with its share of the
        cores.
    - progress: told which runs are in progress.
    """
    if executor is not None:
        hand_over, origin = executor.submit, Origin()
        with _telling_of_a_lost_process():
            yield from _spread(
                tasks, lambda task: hand_over(perform_elsewhere, origin, task), jobs or math.inf, progress
            )
    elif jobs is None or jobs == 1:
        while tasks:
            task = tasks.popleft()
            begin(task.label)
            progress(task.label)
            yield task, _perform(task, lambda message, task=task: _told(task, message, progress))  # type: ignore[misc]
    else:
        threads = max(1, (os.cpu_count() or 1) // jobs)
        context = multiprocessing.get_context("spawn")
        with (
            _telling_of_a_lost_process(),
            ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker, initargs=(threads,)) as pool,
        ):
            yield from _spread(tasks, lambda task: pool.submit(_perform, task), jobs, progress)


def _spread(
    tasks: deque[Task],
    submit: Callable[[Task], Future[Results]],
    most: float,
    progress: Callable[[str], None],
) -> Iterator[tuple[Task, Results]]:
    """Have the tasks done, at most so many at a time; as `execute` says."""
    running: dict[Future[Results], Task] = {}
    failure: BaseException | None = None
    stopping = ""
    while running or (tasks and failure is None):
        while tasks and failure is None and len(running) < most:
            task = tasks.popleft()
            running[submit(task)] = task
            begin(task.label)
        progress(_named(running.values()) + stopping)
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            task = running.pop(future)
            error = CancelledError("it was cancelled") if future.cancelled() else future.exception()
            if error is None:
                yield task, future.result()
            elif failure is None:
                failure = error if _was_raised_by_a_run(error) else _lost(task, error)
                stopping = f", then stopping: {type(error).__name__} in the run of {task.label}"
    if failure is not None:
        raise failure


def _named(running: Collection[Task]) -> str:
    labels = [task.label for task in running]
    more = f" and {len(labels) - _NAMED_AT_ONCE} more" if len(labels) > _NAMED_AT_ONCE else ""
    return "; ".join(labels[:_NAMED_AT_ONCE]) + more


def _lost(task: Task, error: BaseException) -> BaseException:
    """The error of an executor that could not have a run done."""
    if isinstance(error, BrokenProcessPool):
        return error
    lost = ChildProcessError(
        f"a run was lost ({type(error).__name__}: {error}); repeat the command: the others are kept"
    )
    lost.__dict__["__notes__"] = [f"{_OF_A_RUN} {task.label}"]
    lost.__cause__ = error
    return lost


def _told(task: Task, message: str, progress: Callable[[str], None]) -> None:
    detail(f"{task.label}: {message}")
    progress(f"{task.label}: {message}")


@contextmanager
def _telling_of_a_lost_process() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "the process of a run ended abruptly, as it does where memory runs out; repeat the command with fewer "
            "jobs: finished runs are kept"
        ) from error


def _begin_worker(threads: int) -> None:
    end_with_parent()
    set_verbosity(Verbosity.QUIET)  # the process that started it tells of all
    torch.set_num_threads(threads)


def _perform(task: Task, progress: Callable[[str], None] = lambda message: None) -> Results:
    with _telling_of_its_run(task):
        return _run(task, progress)


def perform_elsewhere(origin: Origin, task: Task) -> Results:
    """Do a run in a process that this program has not started, on whichever machine; what it tells is in its log.

    A process does one run at a time, whatever its threads. The run that a machine was doing when it was taken for lost
    may still go on there: then the same run waits until that has ended, and goes on from its last checkpoint.

    Raises `OSError` where the files are not those of the machine that asks, `ImportError` where the packages are not,
    and what the run raises.
    """
    runs = None if task.unfinished is None else task.unfinished.parents[1]
    with _telling_of_its_run(task, f" on {this_machine()}"), as_at(origin, runs), alone(task.unfinished):
        return _run(task, lambda message: tell(f"{task.label}: {message}"))


def _run(task: Task, progress: Callable[[str], None]) -> Results:
    with _telling_of_its_folder(task):
        return run(
            task.experiment,
            task.strategy,
            task.seed,
            stream=task.stream,
            pair=_pair(task),
            tensorboard=task.tensorboard,
            wandb=task.wandb,
            clts=task.clts,
            unfinished=task.unfinished,
            kept=task.kept,
            features=task.features,
            images=task.images,
            progress=progress,
        )


@contextmanager
def _telling_of_its_run(task: Task, where: str = "") -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # As `add_note` of Python 3.11 does.
        error.__dict__.setdefault("__notes__", []).append(f"{_OF_A_RUN} {task.label}{where}")
        raise


def _was_raised_by_a_run(error: BaseException) -> bool:
    """Not by who was to have it done."""
    return any(note.startswith(_OF_A_RUN) for note in getattr(error, "__notes__", ()))


@contextmanager
def _telling_of_its_folder(task: Task) -> Iterator[None]:
    """Whatever could not be written because the folder has vanished is an `OSError` that says so."""
    runs = None if task.unfinished is None else task.unfinished.parents[1]
    if runs is not None:
        require_still_there(runs)
    try:
        yield
    except OSError:
        if runs is not None:
            require_still_there(runs)
        raise


def _pair(task: Task) -> Pair:
    wanted = task.experiment
    pair = _warm_pair(wanted.pair, wanted.device, json.dumps(wanted.captioner), json.dumps(wanted.generator))
    pair = wanted.told(pair)
    if task.images is None:
        return pair
    return Pair(pair.captioner, CachedGenerator(pair.generator, task.images))


@lru_cache(maxsize=1)  # variants ask for one pair after the other, and a device has room for one
def _warm_pair(name: str, device: str, captioner: str, generator: str) -> Pair:
    """The pair, loaded before anything is timed: whichever run came first would bear the cost alone. The arguments of
    its parts are JSON."""
    pair = load_pair(name, device=device, captioner=json.loads(captioner), generator=json.loads(generator))
    pair.captioner.caption([Image.new("RGB", (8, 8))], ["warm-up"])
    pair.generator.generate(["warm-up"], [0])
    return pair
