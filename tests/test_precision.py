"""Arithmetic in bfloat16 where it is faster, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from avalanche_clts.precision import fast_multiplication


@pytest.mark.parametrize(("has", "expected"), [("amx_bf16", torch.bfloat16), ("avx2", torch.float32)])
def test_only_processors_with_instructions_for_it_multiply_in_bfloat16(has: str, expected, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {has: True})
    x = torch.rand(4, 4)
    with fast_multiplication("cpu"):
        assert (x @ x).dtype == expected
    assert (x @ x).dtype == torch.float32
