"""Arithmetic in bfloat16 where it is faster, and nowhere else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from avalanche_clts import Pair, RoutedModel, split_digits
from avalanche_clts.pair.precision import fast_multiplication, fast_training
from tests.conftest import make_clts, small_net


@pytest.mark.parametrize(("has", "expected"), [("amx_bf16", torch.bfloat16), ("avx2", torch.float32)])
def test_only_processors_with_instructions_for_it_multiply_in_bfloat16(has: str, expected, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {has: True}, raising=False)
    x = torch.rand(4, 4)
    with fast_multiplication("cpu"):
        assert (x @ x).dtype == expected
    assert (x @ x).dtype == torch.float32


class Viewing(nn.Module):
    """What cannot be computed with the channels side by side, as `view` wants them one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, bias=False))
        self.normalisation = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.normalisation(self.convolutions(x)).relu().view(len(x), -1)


@pytest.mark.parametrize("backbone", [None, Viewing()])
def test_any_network_can_route(tiny_pair: Pair, backbone: nn.Module | None) -> None:
    head = nn.Linear(256, 10) if backbone else small_net()
    router = nn.Identity() if backbone else Viewing()
    model = RoutedModel(head=head, router=router, backbone=backbone)
    clts = make_clts(tiny_pair, model=model)
    before = copy.deepcopy(model.router.backbone.state_dict())
    stream = split_digits(5)
    for experience in stream.train_stream[:2]:
        clts.train(experience)
    clts.eval(stream.test_stream)
    assert model.router.num_heads == 2
    for name, value in model.router.backbone.state_dict().items():
        assert not torch.equal(value, before[name])
        assert value.is_contiguous()


def test_training_is_fast_where_the_network_can_be(monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    seen: list[tuple[torch.dtype, bool]] = []
    network[0].register_forward_hook(
        lambda module, given, output: seen.append(
            (output.dtype, module.weight.is_contiguous(memory_format=torch.channels_last))
        )
    )
    x = torch.rand(2, 3, 8, 8)
    plain = network.eval()(x)
    means = network.train()[1].running_mean.clone()
    with fast_training(network, network, x) as compute:
        assert torch.equal(network[1].running_mean, means)  # the probe taught it nothing
        assert network[1].training
        network.eval()
        result = compute(x)
    assert result.dtype == torch.float32
    assert torch.allclose(result, plain, atol=3e-2)
    assert seen == [(torch.float32, False)] + 2 * [(torch.bfloat16, True)]
    assert network[0].weight.is_contiguous()
