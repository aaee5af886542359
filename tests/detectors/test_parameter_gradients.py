"""Per-sample gradient norms, against a loop and against pytorch-ood."""

from __future__ import annotations

import pytest
import torch
from small_networks import layers, noise, trained
from torch import nn
from torch.nn import functional

from atd.detectors import parameter_gradients
from atd.detectors.parameter_gradients import squared_norms


def all_ones(logits):
    return functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


def looped(network, images, loss):
    rows = []
    for image in images:
        network.zero_grad()
        loss(network(image[None])[0]).backward()
        rows.append([float(p.grad.square().sum()) for p in network.parameters()])
    return torch.tensor(rows)


def test_equals_a_loop_over_the_images():
    torch.manual_seed(0)
    network, images = layers().train(), noise(5)
    found = squared_norms(network, images, all_ones)
    assert network.training
    expected = looped(network.eval(), images, all_ones)
    assert found.shape == (5, len(list(network.parameters())))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)


def test_equals_pytorch_oods_norms_under_its_loss():
    from pytorch_ood.detector import GradUncertainty

    network, images = layers().eval(), noise(4)

    def their_loss(logits):
        return functional.binary_cross_entropy(
            logits.softmax(-1), torch.ones_like(logits), reduction="sum"
        )

    found = squared_norms(network, images, their_loss)
    for column, (name, _) in enumerate(network.named_parameters()):
        theirs = GradUncertainty(network, param_filter=lambda item, name=name: item == name)
        torch.testing.assert_close(-theirs.predict(images), found[:, column])


def test_chunks_change_nothing(monkeypatch):
    network, images = trained(), noise(5)
    whole = squared_norms(network, images, all_ones)
    monkeypatch.setattr(parameter_gradients, "_MEMORY", 1)
    torch.testing.assert_close(squared_norms(network, images, all_ones), whole)


def test_norms_can_be_differentiated_with_respect_to_the_images_alone():
    network, images = layers().eval(), noise(3).requires_grad_(True)
    found = squared_norms(network, images, all_ones)
    found.log().sum().backward()
    assert images.grad.flatten(1).abs().amax(1).gt(0).all()
    assert all(parameter.grad is None for parameter in network.parameters())
    with torch.no_grad():
        again = squared_norms(network, images, all_ones)
    assert not again.requires_grad
    torch.testing.assert_close(again, found.detach())


class Tokens(nn.Module):
    """Places of a map as tokens (N, T, F)."""

    def forward(self, maps):
        return maps.flatten(2).mT


def unusual():
    """Layers that pad, group, dilate, see tokens, have no bias, or use their weight otherwise."""

    class Scaled(nn.Conv2d):
        def forward(self, images):
            return 2 * super().forward(images)

    class Standardised(nn.Conv2d):
        def forward(self, images):
            return functional.conv2d(images, self.weight - self.weight.mean(), self.bias)

    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding="same", bias=False), nn.GroupNorm(2, 4), nn.Tanh()),
        *(nn.Conv2d(4, 4, 3, stride=2, padding=2, dilation=2, padding_mode="reflect"), nn.Tanh()),
        *(nn.Conv2d(4, 6, (2, 1), groups=2), Scaled(6, 4, 1), Standardised(4, 4, 1), nn.Tanh()),
        *(Tokens(), nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 5, bias=False), nn.Flatten()),
        nn.LazyLinear(4),
    )


@pytest.mark.parametrize("make", [unusual, trained], ids=["unusual", "ours"])
def test_layer_by_layer_is_the_whole_network_sample_by_sample(make):
    images = noise(3)
    network = make().eval()
    network(images)
    names = [name for name, _ in network.named_parameters()]
    skeleton = parameter_gradients._skeleton(network)
    images.requires_grad_(True)
    quick = parameter_gradients._layer_by_layer(skeleton, images, all_ones)
    whole = parameter_gradients._whole(skeleton, names, images, all_ones)
    assert quick.keys() == whole.keys()
    for name in names:
        torch.testing.assert_close(quick[name], whole[name], rtol=1e-4, atol=1e-8)
    (ours, theirs) = (
        torch.autograd.grad(sum(part.log1p().sum() for part in found.values()), images)[0]
        for found in (quick, whole)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_a_tensor_in_two_places_counts_once(shared):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4))
    if shared:
        network[2].weight = network[1].weight
    images = torch.rand(2, 1, 2, 2)
    found = squared_norms(network, images, all_ones)
    assert found.shape[1] == (3 if shared else 4)
    torch.testing.assert_close(found, looped(network, images, all_ones))


def test_no_images_have_no_norms():
    network = trained()
    count = len(list(network.parameters()))
    assert squared_norms(network, noise(0), all_ones).shape == (0, count)
