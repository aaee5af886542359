"""Softplus functions in place of rectifiers, in any network."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional

from atd.backbones.smoothing import SmoothCorners, makes_zeros


def relu_of(x):
    return torch.log1p(torch.exp(20 * x)) / 20


@pytest.mark.parametrize(
    ("corner", "expected"),
    [
        (nn.ReLU(), relu_of),
        (nn.ReLU(inplace=True), relu_of),
        (torch.relu, relu_of),
        (torch.relu_, relu_of),
        (torch.Tensor.relu, relu_of),
        (functional.relu, relu_of),
        (nn.LeakyReLU(0.25), lambda x: 0.25 * x + 0.75 * relu_of(x)),
        (nn.ReLU6(), lambda x: relu_of(x) - relu_of(x - 6)),
        (functional.relu6, lambda x: relu_of(x) - relu_of(x - 6)),
        (nn.Hardtanh(-2, 3), lambda x: -2 + relu_of(x + 2) - relu_of(x - 3)),
    ],
)
def test_corners_are_softplus_functions(corner, expected):
    x = torch.linspace(-4, 9, 40, dtype=torch.float64)
    sharp = corner(x.clone())
    with SmoothCorners(20):
        smooth = corner(x.clone())
    torch.testing.assert_close(smooth, expected(x))
    torch.testing.assert_close(smooth, sharp, rtol=0, atol=0.05)
    assert not torch.equal(smooth, sharp)
    assert torch.equal(corner(x.clone()), sharp)


def test_the_gradient_of_a_gradient_does_not_vanish():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)

    def second():
        (first,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
        (found,) = torch.autograd.grad(first.square().sum(), x, materialize_grads=True)
        return found

    assert not second().any()
    with SmoothCorners(10):
        assert second().abs().amin() > 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"attn_mask": torch.rand(7, 7)},
        {"attn_mask": torch.rand(7, 7) > 0.3, "scale": 0.3},
        {"enable_gqa": True},
    ],
)
def test_attention_can_be_differentiated_twice(options):
    keys = 2 if options.get("enable_gqa") else 4
    query = torch.rand(2, 4, 7, 3, requires_grad=True)
    key, value = torch.rand(2, 2, keys, 7, 3)
    expected = functional.scaled_dot_product_attention(query, key, value, **options)
    with SmoothCorners(10):
        found = functional.scaled_dot_product_attention(query, key, value, **options)
    torch.testing.assert_close(found, expected)
    (first,) = torch.autograd.grad(found.square().sum(), query, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), query)
    assert second.isfinite().all()
    assert second.any()


def test_a_layer_of_attention_can_be_differentiated_twice():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(6, 2, batch_first=True).eval().requires_grad_(False)
    x = torch.rand(2, 5, 6, requires_grad=True)
    expected, _ = layer(x, x, x, need_weights=False)
    with SmoothCorners(10):
        found, _ = layer(x, x, x, need_weights=False)
    torch.testing.assert_close(found, expected)
    (first,) = torch.autograd.grad(found.square().sum(), x, create_graph=True)
    assert torch.autograd.grad(first.square().sum(), x)[0].any()


def test_other_threads_and_functions_are_left_alone():
    x = torch.linspace(-1, 1, 9)
    found = {}
    with SmoothCorners(5):
        thread = threading.Thread(target=lambda: found.update(other=torch.relu(x)))
        thread.start()
        thread.join()
        assert torch.equal(functional.silu(x), x * x.sigmoid())
    assert torch.equal(found["other"], x.clamp_min(0))


def test_which_networks_have_zero_gradients():
    assert makes_zeros(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    assert not makes_zeros(nn.Sequential(nn.Linear(2, 2), nn.SiLU()))
