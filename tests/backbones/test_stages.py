"""Where the maps of a network's depths lie, told by watching one pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from atd.backbones.stages import as_maps, find_head, find_stages


@pytest.mark.parametrize(
    ("shape", "maps"),
    [
        ((2, 6, 4, 4), (2, 6, 4, 4)),
        ((2, 4, 4, 6), (2, 6, 4, 4)),  # channels last
        ((2, 16, 6), (2, 6, 4, 4)),  # tokens
        ((2, 17, 6), (2, 6, 4, 4)),  # tokens after a class token
        ((2, 6, 4, 5), None),
        ((2, 15, 6), None),
        ((2, 6), None),
    ],
)
def test_maps_of_every_form(shape, maps):
    found = as_maps(torch.rand(shape))
    assert (None if found is None else tuple(found.shape)) == maps


def test_tokens_keep_their_places():
    value = torch.rand(2, 17, 6)
    assert torch.equal(as_maps(value)[1, :, 2, 3], value[1, 1 + 2 * 4 + 3])


class Squeeze(nn.Module):
    """A side branch that shrinks the maps for a while."""

    def __init__(self, channels):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, maps):
        return maps * self.gate(self.pool(maps)).sigmoid()


def test_side_branches_and_what_follows_pooling_do_not_count():
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), Squeeze(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 3, 2, 1), Squeeze(6)),
        nn.AdaptiveAvgPool2d(1),
        nn.Dropout2d(0.0),
        nn.Flatten(),
        nn.Linear(6, 5),
    ).eval()
    images = torch.rand(2, 3, 8, 8)
    assert find_head(net, images, 5) == "5"
    # "1.0" has the resolution of "0" too, but is on the way to the next one.
    assert find_stages(net, images, "5") == ["0", "1"]


def test_of_a_network_of_one_resolution_four_blocks_are_taken():
    blocks = [nn.Sequential(nn.Conv2d(3, 3, 3, 1, 1), nn.ReLU()) for _ in range(8)]
    net = nn.Sequential(nn.Sequential(*blocks), nn.Flatten(), nn.Linear(192, 7)).eval()
    images = torch.rand(2, 3, 8, 8)
    assert find_stages(net, images, "2") == ["0.1", "0.3", "0.5", "0"]


def test_a_network_without_maps_has_no_stages():
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 7)).eval()
    images = torch.rand(2, 3, 8, 8)
    assert find_stages(net, images, "1") == []
    assert find_head(net, images, 8) is None
