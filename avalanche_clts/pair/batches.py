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


def run_batches(
    items: Sequence[Item],
    batch_size: int,
    *,
    prepare: Callable[[Sequence[Item]], Any],
    compute: Callable[[Any], Any],
    finish: Callable[[Any], list[Result]],
    device: str | torch.device,
    done: Callable[[int], object] = lambda count: None,
) -> tuple[list[Result], int]:
    """A result for each item, in order, and the size of batch that the device had memory for.

    **Arguments:**

    - items, batch_size: what to work through, and how many at a time. Where the device runs out of memory, batches are
        halved from then on; finished ones are not done again.
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
        start, upcoming = 0, None
        while start < len(items):
            end = start + batch_size
            batch = items[start:end]
            upcoming = upcoming or host.submit(prepare, batch)
            prepared = upcoming.result()
            upcoming = None if on_cpu or end >= len(items) else host.submit(prepare, items[end : end + batch_size])
            try:
                computed = compute(prepared)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                batch_size, upcoming = len(batch) // 2, None
                torch.cuda.empty_cache()
                continue
            results.append(host.submit(finish, computed))
            start = end
            done(len(batch))
        return [result for future in results for result in future.result()], batch_size


class _AtOnce(Executor):
    """Does what it is given in the caller's own thread: on the CPU there is nothing to overlap with."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future
