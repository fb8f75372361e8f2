"""Executors that others have written, by a text: Dask's, on any machines, and submitit's, for SLURM."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .console import tell

_CONNECT_SECONDS = 10
_ASK_SECONDS = 0.5  # between two looks at the jobs' folder; SLURM itself is asked every few minutes
_LOSSES = 3  # of one run, with its job; Dask allows as many by itself
_OF_SUBMITIT = ("name", "timeout_min", "mem_gb", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node")


@contextmanager
def open_executor(text: str, folder: Path) -> Iterator[Executor]:
    """The executor that a text names, as `compare` and `ablate` take it, open for as long as the context lasts. What it
    has not done by then is cancelled.

    **Arguments:**

    - text: "tcp://HOST:PORT" (or "tls://..."), where a Dask scheduler is; or "slurm:timeout_min=600,...", options of
        submitit's `AutoExecutor`: timeout_min, mem_gb, cpus_per_task and gpus_per_node, or those of SLURM, such as
        partition, account, qos, constraint.
    - folder: of the jobs' files and logs, where all machines see it: of SLURM alone.

    Raises `ValueError` for a text that names none, `ImportError` without the extra `dask` or `slurm`, and `OSError`
    where no scheduler answers or SLURM is not there.
    """
    kind, _, options = text.partition(":")
    if kind == "slurm":
        with _on_slurm(text, options, folder) as executor:
            yield executor
    elif options.startswith("//") and kind:
        with _on_dask(text) as executor:
            yield executor
    else:
        raise ValueError(
            f"executor is {text!r}; write the address of a Dask scheduler, tcp://HOST:PORT, or "
            "slurm:timeout_min=MINUTES,partition=NAME,..."
        )


@contextmanager
def _on_dask(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError:
        raise ImportError(
            f'executor is {address!r}, but Dask is not installed; run: pip install "avalanche-clts[dask]"'
        ) from None
    try:
        client = Client(address, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise OSError(f"executor is {address!r}, where no Dask scheduler answers ({error}); start one there") from None
    with client:
        workers = len(client.scheduler_info()["workers"])
        tell(f"executor: Dask at {address}, {workers} workers" + ("" if workers else ": runs wait for the first"))
        # A run that raises would raise again. One that is lost with its worker is done again by the scheduler.
        yield client.get_executor(pure=False)


@contextmanager
def _on_slurm(text: str, options: str, folder: Path, cluster: str = "slurm") -> Iterator[Executor]:
    try:
        from submitit import AutoExecutor
    except ImportError:
        raise ImportError(
            f'executor is {text!r}, but submitit is not installed; run: pip install "avalanche-clts[slurm]"'
        ) from None
    given = _read(text, options)
    if "timeout_min" not in given:  # submitit's default is five minutes
        raise ValueError(f"executor is {text!r}; say how many minutes a run may take: slurm:timeout_min=600")
    try:
        submits = AutoExecutor(folder, cluster=cluster)
    except RuntimeError:
        raise OSError(
            f"executor is {text!r}, but SLURM's commands are not on this machine; give the command where they are"
        ) from None
    named = {name if name in _OF_SUBMITIT else f"slurm_{name}": value for name, value in given.items()}
    try:
        submits.update_parameters(**{"name": "clts"} | named)
    except (NameError, ValueError, TypeError, AssertionError) as error:
        raise ValueError(f"executor is {text!r}; {str(error).splitlines()[0]}") from None
    with SubmititExecutor(submits) as executor:
        tell(f"executor: SLURM; the jobs' files and logs are in {folder}")
        yield executor


def _read(text: str, options: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in filter(None, options.split(",")):
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise ValueError(f"executor is {text!r}; {part!r} is no option: write NAME=VALUE, such as partition=gpu")
        found[name] = int(value) if value.isdecimal() else value
    return found


class SubmititExecutor(Executor):
    """submitit's executor as one of Python's: with futures that can be waited for, and errors as they were raised.

    A job that ends without an outcome, as with its machine, is submitted again, three times at most; one that SLURM
    takes back, for others or because its time is up, is queued again.

    ```python
    from submitit import AutoExecutor

    from avalanche_clts._support.executors import SubmititExecutor

    with SubmititExecutor(AutoExecutor("jobs", cluster="local")) as executor:
        assert executor.submit(pow, 2, 5).result() == 32
    ```

    **Arguments:**

    - executor: submitit's.
    """

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._running: dict[Future[Any], _Job] = {}
        self._watcher: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a job that makes the call. Where it is refused, the future has the error."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # from now on the cluster decides
        with self._lock:
            self._submit(future, _Call(fn, args, kwargs), losses=0)
            if self._running and self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, daemon=True)
                self._watcher.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for all jobs, or cancel them: also those that run."""
        if wait and not cancel_futures:
            while self._watcher is not None:
                time.sleep(_ASK_SECONDS)
        with self._lock:
            for future, job in self._running.items():
                job.submitted.cancel(check=False)
                future.set_exception(ChildProcessError(f"job {job.submitted.job_id} was cancelled"))
            self._running.clear()

    def __exit__(self, kind: type[BaseException] | None, *others: object) -> None:
        self.shutdown(cancel_futures=kind is not None)

    def _submit(self, future: Future[Any], call: _Call, losses: int) -> None:
        from submitit.helpers import clean_env

        try:
            # In a job of its own, as on a node with a GPU, the new ones would be taken for a part of that.
            with clean_env() if "SLURM_JOB_ID" in os.environ else nullcontext():
                self._running[future] = _Job(call, self._executor.submit(call), losses)
        except Exception as error:  # whatever the cluster refuses
            future.set_exception(OSError(f"the job was not taken: {error}"))

    def _watch(self) -> None:
        while True:
            time.sleep(_ASK_SECONDS)
            with self._lock:
                for future, job in list(self._running.items()):
                    if job.submitted.done():
                        del self._running[future]
                        self._settle(future, job)
                if not self._running:
                    self._watcher = None
                    return

    def _settle(self, future: Future[Any], job: _Job) -> None:
        """Hand on what a job came to, or submit it again."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        value: Any = None
        error: Exception | None
        try:
            value, error = job.submitted.result()
        except UncompletedJobError as lost:
            of_its_own = isinstance(lost, FailedJobError) or job.submitted.state.startswith("CANCELLED")
            if job.losses < _LOSSES and not of_its_own:
                self._submit(future, job.call, job.losses + 1)
                return
            log = job.submitted.paths.stderr
            error = ChildProcessError(f"job {job.submitted.job_id} ended without results; its log is {log}")
        except Exception as unreadable:
            error = unreadable
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)


@dataclass(frozen=True)
class _Job:
    """A call, the job that makes it now, and how many were lost before that."""

    call: _Call
    submitted: Any
    losses: int


@dataclass(frozen=True)
class _Call:
    """What a job does: it returns the value, or the error, which submitit would make a text of."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self) -> tuple[Any, Exception | None]:
        """Make the call."""
        from submitit.core.utils import UncompletedJobError

        try:
            return self.fn(*self.args, **self.kwargs), None
        except UncompletedJobError:  # the job's own, whose time is up for good
            raise
        except Exception as error:
            return None, error

    def checkpoint(self) -> Any:
        """What is to be queued again when the job is taken back: the same, since a run goes on from its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
