"""Recording and replacing activations, against networks taken apart by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from atd.backbones import build_backbone
from atd.backbones.activations import is_leaf, is_normalisation, record, require_layers
from atd.config import BackboneConfig
from atd.errors import UserError


def network(inplace=True):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace), nn.Flatten(), nn.Linear(144, 5)
    ).eval()


def hooks(module):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def test_every_value_is_its_own_layers():
    net, images = network(), torch.rand(2, 3, 8, 8)
    recording = record(net, images, is_leaf)
    expected = images
    for (label, value), (name, layer) in zip(
        recording.activations, net.named_children(), strict=True
    ):
        # An in-place layer must not change what was kept of the one before it.
        expected = layer(expected.clone())
        assert label == name
        assert torch.equal(value, expected)
    assert torch.equal(recording.output, net(images))
    assert hooks(net) == 0


def test_inputs_can_be_kept_too():
    net, images = network(), torch.rand(2, 3, 8, 8)
    (kept,) = record(net, images, ["4"], side="input").values()
    assert torch.equal(kept, net[:4](images))


def test_gradients_are_those_of_the_layers_output_in_spite_of_in_place_layers():
    net, images = network(), torch.rand(2, 3, 8, 8)
    recording = record(net.requires_grad_(False), images, is_normalisation, gradients=True)
    ((label, value),) = recording.activations
    (found,) = torch.autograd.grad(recording.output.amax(1).sum(), value)
    maps = net[:2](images).requires_grad_()
    (expected,) = torch.autograd.grad(net[4](maps.relu().flatten(1)).amax(1).sum(), maps)
    assert label == "1"
    assert torch.equal(found, expected)
    assert (found == 0).any()


def test_gradients_reach_the_images_twice():
    net = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 2)).double()
    images = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)

    def penalty(x):
        recording = record(net, x, ["1"], gradients=True)
        (inner,) = torch.autograd.grad(
            recording.output.square().sum(), recording.values(), create_graph=True
        )
        return inner.square().sum()

    assert torch.autograd.gradcheck(penalty, images)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_turned_on_where_they_are_off(mode):
    net = network()
    with mode():
        images = torch.rand(2, 3, 8, 8)
        recording = record(net, images, is_normalisation, gradients=True)
        plain = record(net, images, is_normalisation)
    (gradient,) = torch.autograd.grad(recording.output.sum(), recording.values())
    assert gradient.any()
    assert not plain.values()[0].requires_grad


def test_a_replacement_is_what_the_network_goes_on_with():
    net, images = network(), torch.rand(2, 3, 8, 8)
    noise = torch.rand(2, 4, 6, 6)
    recording = record(net, images, ["1"], replace={"1": noise})
    assert torch.equal(recording.output, net[2:](noise.clone()))
    assert torch.equal(recording.values()[0], noise)
    moved = record(net, images, [], replace={"1": lambda maps: maps + noise})
    assert torch.equal(moved.output, net[2:](net[:2](images) + noise))
    assert moved.activations == []


def test_a_replacement_is_never_written_to():
    net, noise = network(), torch.randn(2, 4, 6, 6)
    before = noise.clone()
    record(net, torch.rand(2, 3, 8, 8), [], replace={"1": noise})
    assert torch.equal(noise, before)


def test_gradients_flow_to_a_replacement():
    net, noise = network(), torch.randn(2, 4, 6, 6, requires_grad=True)
    record(net, torch.rand(2, 3, 8, 8), [], replace={"1": noise}).output.sum().backward()
    assert noise.grad.any()


def test_a_layer_that_is_called_again_has_labels_of_its_own():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.Tanh()

        def forward(self, x):
            return self.act(self.act(x) + 1)

    net, x = Twice(), torch.rand(2, 3)
    recording = record(net, x, is_leaf)
    assert [label for label, _ in recording.activations] == ["act", "act#2"]
    assert torch.equal(recording.values()[0], x.tanh())
    (second,) = record(net, x, ["act#2"]).values()
    assert torch.equal(second, recording.output)
    replaced = record(net, x, [], replace={"act": torch.zeros(2, 3)})
    assert torch.equal(replaced.output, torch.ones(2, 3).tanh())


def test_nothing_stays_behind_after_an_exception():
    net = network()
    with pytest.raises(RuntimeError):
        record(net, torch.rand(2, 7, 8, 8), is_leaf)
    assert hooks(net) == 0


def test_impossible_wishes_are_named():
    net, images = network(), torch.rand(2, 3, 8, 8)
    with pytest.raises(UserError, match="no layer 9 was called"):
        record(net, images, [], replace={"9": images})
    with pytest.raises(UserError, match=r"layer 1 gives \(2, 4, 6, 6\).*by \(2, 4, 1, 1\)"):
        record(net, images, [], replace={"1": torch.zeros(2, 4, 1, 1)})
    with pytest.raises(UserError, match="no normalisation layers"):
        require_layers(
            record(nn.Sequential(nn.Flatten()), images, is_normalisation), "normalisation layers"
        )


def test_other_threads_see_and_change_nothing():
    """Eight threads pass through one network at once, each with layers and images of its own."""
    net = build_backbone(BackboneConfig(width=4), channels=3, classes=5, image_size=8).eval()
    names = [name for name, module in net.named_modules() if is_leaf(name, module)]
    jobs = [(torch.rand(1 + i % 3, 3, 8, 8), names[i % len(names) :]) for i in range(160)]

    def work(job):
        images, chosen = job
        if len(chosen) % 4 == 0:
            return net(images), []
        recording = record(net, images, chosen, gradients=len(chosen) % 2 == 0)
        return recording.output, recording.activations

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(work, jobs))
    for (output, found), job in zip(together, jobs, strict=True):
        alone, expected = work(job)
        assert torch.equal(output, alone)
        assert [label for label, _ in found] == [label for label, _ in expected]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(found, expected, strict=True))
    assert hooks(net) == 0


def test_a_recording_inside_a_recording():
    net, images = network(), torch.rand(2, 3, 8, 8)
    inner = []

    def call(x):
        inner.append(record(net, x, ["3"]))
        return inner[0].output

    outer = record(net, images, is_normalisation, call=call)
    assert [label for label, _ in outer.activations] == ["1"]
    assert [label for label, _ in inner[0].activations] == ["3"]


def test_normalisations_of_all_kinds_are_found():
    kinds = [nn.BatchNorm1d(4), nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.RMSNorm(4)]
    net = nn.Sequential(*kinds, nn.Linear(4, 4), nn.ReLU()).eval()
    found = record(net, torch.rand(2, 4), is_normalisation).activations
    assert [label for label, _ in found] == ["0", "1", "2", "3"]


def test_a_recording_can_be_exported():
    class Norms(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, x):
            values = record(self.net, x, is_normalisation).values()
            return torch.cat([value.mean((2, 3)) for value in values], 1).sum(1)

    images = torch.rand(3, 3, 8, 8)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(Norms().eval(), (images[:2],), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(images), Norms().eval()(images))


def test_a_compiled_caller_records_anew_every_time():
    net = network()

    def norms(x):
        return record(net, x, is_normalisation).values()[0].mean((1, 2, 3))

    compiled = torch.compile(norms, backend="eager")
    for seed in range(3):
        images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(compiled(images), norms(images))
