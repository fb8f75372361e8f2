"""Work in batches that fit a device, with the host's share of it done meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchSize:
    """How many items a device is given at a time: as many as were asked for, and fewer while it has no memory for them.

    Where the device runs out of memory, the size is halved. It doubles again, up to the one asked for, after a number
    of full batches without such an error; that number doubles with every error: 2, 4, 8, ... So a device that was short
    of memory once soon works as before, and one that always is loses ever less to trying.

    **Arguments:**

    - asked: items at a time at most.
    """

    def __init__(self, asked: int) -> None:
        self.asked = self.now = asked
        self._patience = 1
        self._successes = 0

    def asked_for(self, asked: int) -> BatchSize:
        """What has been learnt about the device, unless another size is asked for than before."""
        return self if asked == self.asked else BatchSize(asked)

    def failed(self, count: int) -> None:
        """A batch of `count` items found no memory."""
        self.now = max(1, count // 2)
        self._patience *= 2
        self._successes = 0

    def succeeded(self, count: int) -> None:
        """A batch of `count` items is done."""
        self._successes += self.now <= count
        if self._successes >= self._patience:
            self.now = min(2 * self.now, self.asked)
            self._successes = 0


def run_batches(
    items: Sequence[Item],
    size: BatchSize,
    *,
    prepare: Callable[[Sequence[Item]], Any],
    compute: Callable[[Any], Any],
    finish: Callable[[Any], list[Result]],
    device: str | torch.device,
    done: Callable[[int], object] = lambda count: None,
) -> list[Result]:
    """A result for each item, in order.

    **Arguments:**

    - items, size: what to work through, and how many at a time. Where the device runs out of memory, the batch is done
        again in smaller ones; finished ones are not.
    - prepare, finish: the host's part before and after. Beside an accelerator, the next batch is prepared and the last
        one finished while it computes.
    - compute: the device's part.
    - done: told after each batch how many items it had.

    Raises `torch.OutOfMemoryError` if there is no memory for one item.
    """
    import torch

    on_cpu = torch.device(device).type == "cpu"
    results: list[Future[list[Result]]] = []
    with nullcontext(_AtOnce()) if on_cpu else ThreadPoolExecutor(2) as host:
        start = 0
        upcoming: tuple[int, Future[Any]] | None = None  # where the batch ends, and what is prepared of it
        while start < len(items):
            end, future = upcoming or _begin(host, prepare, items, start, size)
            prepared = future.result()
            upcoming = None if on_cpu or end >= len(items) else _begin(host, prepare, items, end, size)
            try:
                computed = compute(prepared)
            except torch.OutOfMemoryError:
                if end - start == 1:
                    raise
                upcoming = None
            else:
                results.append(host.submit(finish, computed))
                size.succeeded(end - start)
                done(end - start)
                start = end
                continue
            # Behind the handler, which keeps alive what the computation had on the device.
            size.failed(end - start)
            torch.cuda.empty_cache()
        return [result for future in results for result in future.result()]


def _begin(
    host: Executor, prepare: Callable[[Sequence[Item]], Any], items: Sequence[Item], start: int, size: BatchSize
) -> tuple[int, Future[Any]]:
    end = min(start + size.now, len(items))
    return end, host.submit(prepare, items[start:end])


class _AtOnce(Executor):
    """Does what it is given in the caller's own thread: on the CPU there is nothing to overlap with."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future
