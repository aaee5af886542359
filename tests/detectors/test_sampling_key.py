import pytest
import torch
from torch import nn
from torch.nn import functional

from atd.backbones import build_backbone
from atd.config import BackboneConfig
from atd.detectors.sampling_key import layer_maps, places_of, read, stacked
from atd.errors import UserError


class Tokens(nn.Module):
    def forward(self, images):
        return images.flatten(2).transpose(1, 2)


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 1), Tokens()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(45, 6))


@pytest.mark.parametrize("size", [8, 9])
def test_points_read_what_resizing_the_maps_would_put_there(size):
    torch.manual_seed(1)
    maps = layer_maps(network(), torch.rand(2, 3, 8, 8))
    resized = [functional.interpolate(m, size=(size, size), mode="nearest") for m in maps]
    volume = torch.cat(resized, dim=1)
    key = torch.stack([torch.randint(0, side, (500,)) for side in volume.shape[1:]], dim=1)
    places = places_of(key, [tuple(m.shape[1:]) for m in maps], size)
    assert torch.equal(stacked(maps)[:, places], volume[:, key[:, 0], key[:, 1], key[:, 2]])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_values_are_read_where_they_lie(count):
    maps = layer_maps(network(), torch.rand(count, 3, 8, 8).add(1)) if count else None
    maps = maps or [torch.zeros(0, 2, 3, 3), torch.zeros(0, 5, 1, 1)]
    total = stacked(maps).shape[1]
    places = torch.randperm(total)[: total // 3].sort().values
    assert torch.equal(read(maps, places), stacked(maps)[:, places])
    last = torch.tensor([0, total - 1])
    assert torch.equal(read(maps, last), stacked(maps)[:, last])


def test_every_layer_that_gives_tensors_is_there():
    maps = layer_maps(network(), torch.rand(2, 3, 8, 8))
    shapes = [tuple(m.shape) for m in maps]
    assert shapes == [
        (2, 4, 6, 6),
        (2, 4, 6, 6),
        (2, 4, 3, 3),
        (2, 5, 3, 3),
        (2, 5, 9, 1),
        (2, 45, 1, 1),
        (2, 6, 1, 1),
    ]


class Nothing(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Identity())

    def forward(self, images):
        return images.mean((1, 2, 3))


def test_a_network_without_layers_is_refused():
    with pytest.raises(UserError, match="no layers"):
        layer_maps(Nothing(), torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize("architecture", ["timm:vit_tiny_patch16_224", "torchvision:mobilenet_v2"])
def test_foreign_networks_are_read_whole(architecture):
    config = BackboneConfig(architecture=architecture)
    backbone = build_backbone(config, channels=3, classes=4, image_size=32).eval()
    with torch.no_grad():
        one, two = (stacked(layer_maps(backbone, torch.rand(n, 3, 32, 32))) for n in (1, 2))
    assert one.shape[1] == two.shape[1] > 10_000
