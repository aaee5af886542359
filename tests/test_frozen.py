"""The attack's context puts everything back as it was."""

import pytest
import torch
from torch import nn

from atd.inference import frozen


def test_freezes_and_restores_each_part() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout()).train()
    network[1].eval()
    network[0].weight.requires_grad_(False)
    with frozen(network):
        assert not any(part.training for part in network.modules())
        assert not any(p.requires_grad for p in network.parameters())
    assert network.training
    assert network[0].training
    assert not network[1].training
    assert not network[0].weight.requires_grad
    assert network[0].bias.requires_grad


def test_restores_after_an_exception() -> None:
    network = nn.Linear(2, 2).train()
    with pytest.raises(ZeroDivisionError), frozen(network):
        _ = 1 / 0
    assert network.training
    assert network.weight.requires_grad


def test_gradients_reach_the_input_but_not_the_parameters() -> None:
    network, x = nn.Linear(2, 2), torch.randn(3, 2, requires_grad=True)
    with frozen(network):
        network(x).sum().backward()
    assert x.grad is not None
    assert network.weight.grad is None
