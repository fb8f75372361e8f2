"""How a device computes fastest: bfloat16 where it has it, and plain attention where sequences are short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def fast_multiplication(device: str | torch.device) -> AbstractContextManager[Any]:
    """A context in which matrices are multiplied in bfloat16, where the device has instructions for it.

    Elsewhere the context changes nothing. What it gains the embedded pair is in benchmarks/results/bfloat16/.
    """
    import torch

    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16) if _has_bfloat16(kind) else nullcontext()


def without_8_bits(model: Any, dtype: torch.dtype) -> Any:
    """The model, its weights of 8 bits in `dtype`: version 4 of transformers leaves these as they are. What the library
    keeps in full precision, as T5 has some that overflow in half of it, stays so."""
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point() and tensor.element_size() == 1:
            tensor.data = tensor.data.to(dtype)
    return model


@contextmanager
def fast_training(
    network: nn.Module, compute: Callable[[Tensor], Tensor], example: Tensor
) -> Iterator[Callable[[Tensor], Tensor]]:
    """A context that yields `compute` as the device does it fastest: in bfloat16, see `fast_multiplication`, and with
    the channels of a pixel side by side; its results are in float32.

    Not every network can be computed so: where `example` fails, `compute` is yielded as it is. What it gains the router
    is in benchmarks/results/router/.

    **Arguments:**

    - network: whose weights `compute` uses; in the context they may lie in memory in another order.
    - example: inputs like those to come, two at least; nothing is learnt from them.
    """
    import torch

    def fast(x: Tensor) -> Tensor:
        with fast_multiplication(x.device):
            return compute(_arranged(x, torch.channels_last)).float()

    training = {module: module.training for module in network.modules()}
    network.eval()  # normalisation statistics are not to move
    before = [(tensor, _order(tensor)) for tensor in [*network.parameters(), *network.buffers()]]
    _arrange((tensor, torch.channels_last) for tensor, _ in before)
    chosen: Callable[[Tensor], Tensor] = fast
    try:
        with torch.no_grad():
            fast(example)
    except RuntimeError:  # an operation that knows no bfloat16, or a view of what is not contiguous
        _arrange(before)
        chosen = compute
    for module, mode in training.items():
        module.training = mode
    try:
        yield chosen
    finally:
        _arrange(before)


def _order(tensor: Tensor) -> torch.memory_format:
    import torch

    return torch.contiguous_format if tensor.is_contiguous() else torch.channels_last


def _arrange(orders: Iterable[tuple[Tensor, torch.memory_format]]) -> None:
    for tensor, order in orders:
        tensor.data = _arranged(tensor.data, order)


def _arranged(tensor: Tensor, order: torch.memory_format) -> Tensor:
    return tensor.contiguous(memory_format=order) if tensor.dim() == 4 else tensor


def half_precision(device: str | torch.device) -> torch.dtype:
    """What a large model's weights are held in: bfloat16 where a GPU has it, else float16; float32 on the CPU."""
    import torch

    kind = torch.device(device).type
    if kind == "cpu":
        return torch.float32
    return torch.bfloat16 if _has_bfloat16(kind) else torch.float16


def _has_bfloat16(kind: str) -> bool:
    import torch

    if kind == "cpu":
        return bool(bfloat16_instructions())
    return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def bfloat16_instructions() -> list[str]:
    """Those of the processor that multiply in bfloat16: "amx_bf16", "avx512_bf16"."""
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        has = torch.cpu.get_capabilities()
        return [name for name in ("amx_bf16", "avx512_bf16") if has.get(name)]
    # Older versions of PyTorch tell it in private, and of AMX only that it is there.
    told = {"amx_bf16": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}
    return [name for name, asked in told.items() if getattr(torch.cpu, asked, bool)()]


def plain_attention(device: str | torch.device) -> AbstractContextManager[Any]:
    """A context in which attention is trained as plain matrix products on the CPU.

    For the few positions of small latents, the backward pass of PyTorch's fused kernel takes a fifth of a training step
    there (benchmarks/results/embedded-pair/). Other devices keep their kernels.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if torch.device(device).type != "cpu":
        return nullcontext()
    context: AbstractContextManager[Any] = sdpa_kernel(SDPBackend.MATH)
    return context
