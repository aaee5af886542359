"""torchvision models as backbones; what lies inside is told by their own modules."""

from __future__ import annotations

import pytest
import torch

from atd.backbones import build_backbone
from atd.config import BackboneConfig
from atd.errors import UserError


def build(name, features="multi", channels=3, size=32, classes=4):
    config = BackboneConfig(architecture=f"torchvision:{name}", features=features)
    return build_backbone(
        config, channels=channels, classes=classes, image_size=size, mean=[0.5] * channels
    ).eval()


def test_resnet_is_read_as_its_own_modules_say():
    backbone = build("resnet18")
    model, images = backbone.model, torch.rand(2, 3, 32, 32)
    x = model.maxpool(model.relu(model.bn1(model.conv1(images - 0.5))))
    expected = []
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = layer(x)
        expected.append(x)
    for found, maps in zip(backbone.stages(images), expected, strict=True):
        assert torch.equal(found, maps)
    torch.testing.assert_close(backbone.embed(images), x.mean((2, 3)))
    torch.testing.assert_close(backbone(images), model.fc(x.mean((2, 3))))
    assert backbone.head_name == "model.fc"
    assert backbone.feature_dim == 2 * (64 + 128 + 256 + 512)


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [
        ("mobilenet_v3_small", 32, 1),
        ("squeezenet1_1", 64, 3),
        ("shufflenet_v2_x0_5", 32, 1),
        ("regnet_y_400mf", 32, 3),
    ],
)
def test_contract(name, size, channels):
    backbone = build(name, channels=channels, size=size)
    images = torch.rand(2, channels, size, size, requires_grad=True)
    stages = backbone.stages(images)
    assert len(stages) == 4
    assert all(a.shape[2] > b.shape[2] for a, b in zip(stages, stages[1:], strict=False))
    assert backbone.embed(images).shape == (2, backbone.embedding_dim)
    assert backbone.features(images).shape == (2, backbone.feature_dim)
    assert torch.equal(backbone(images), backbone.model(images - 0.5))
    backbone.features(images).sum().backward()
    assert images.grad.isfinite().all()
    assert images.grad.abs().sum() > 0


LAST = {
    "convnext_tiny": ("features.1", "features.3", "features.5", "features"),
    "densenet121": tuple(f"features.denseblock{i}" for i in (1, 2, 3)) + ("features",),
    "efficientnet_b0": ("features.2", "features.3", "features.5", "features"),
    "resnet50": ("layer1", "layer2", "layer3", "layer4"),
    "swin_t": ("features.1", "features.3", "features.5", "permute"),
    "vgg11_bn": ("features.13", "features.20", "features.27", "avgpool"),
    "vit_b_16": tuple(f"encoder.layers.encoder_layer_{i}" for i in (2, 5, 8)) + ("encoder",),
    "googlenet": ("conv3", "inception3b", "inception4e", "inception5b"),
    "regnet_x_400mf": tuple(f"trunk_output.block{i}" for i in (1, 2, 3)) + ("trunk_output",),
}


@pytest.mark.parametrize("name", LAST)
def test_stages_end_where_a_resolution_ends_and_nothing_is_allocated(name):
    with torch.device("meta"):
        backbone = build(name, size=224)
    assert backbone.stage_layers == tuple(f"model.{label}" for label in LAST[name])
    assert all(value.is_meta for value in backbone.state_dict().values())


def test_the_largest_model_costs_nothing_on_the_meta_device():
    with torch.device("meta"):
        backbone = build("regnet_y_128gf", size=4096)
    assert sum(weight.numel() for weight in backbone.parameters()) > 6e8


def test_a_head_behind_which_something_lies_is_told():
    backbone = build("squeezenet1_1", size=64)
    images = torch.rand(2, 3, 64, 64)
    with pytest.raises(UserError, match="logits are not a function of its embedding"):
        backbone.classify(backbone.embed(images))


def test_nothing_in_the_network_is_left_to_chance():
    backbone = build("efficientnet_b0").train()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(backbone(images), backbone(images))


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("resnet19", 32, "torchvision:resnet19: unknown; the nearest is resnet"),
        ("fasterrcnn_resnet50_fpn", 32, "unknown; the nearest is"),
        ("inception_v3", 32, "torchvision:inception_v3 does not work on 3x32x32 images"),
        ("vit_b_16", 40, "torchvision:vit_b_16 cannot be built for 40 px"),
    ],
)
def test_mistakes_are_one_line(name, size, said):
    with pytest.raises(UserError, match=said) as caught, torch.device("meta"):
        build(name, size=size)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "sizes"),
    [
        ("data.image_size", {"image_size": 10**100}),
        ("data.channels", {"channels": 10**8}),
        ("the number of classes", {"classes": 0}),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_built(key, sizes):
    options = {"channels": 3, "classes": 4, "image_size": 32, **sizes}
    with pytest.raises(UserError, match=f"{key}=.* out of range"):
        build_backbone(BackboneConfig(architecture="torchvision:resnet18"), **options)


def test_normalisation_must_suit_the_channels():
    config = BackboneConfig(mean=[0.1, 0.2], std=[0.1, 0.2])
    with pytest.raises(UserError, match=r"backbone.mean has 2 values, but images have 3"):
        build_backbone(config, channels=3, classes=4, image_size=32)
