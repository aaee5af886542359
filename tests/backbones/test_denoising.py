"""OSAD's wrapper: what its layers compute, and around which backbones it fits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from atd.backbones import build_backbone
from atd.backbones.denoising import _Attention
from atd.backbones.weights import adopted
from atd.config import BackboneConfig
from atd.errors import UserError


def build(architecture="preact_resnet18", size=8, **options):
    torch.manual_seed(0)
    config = BackboneConfig(architecture=architecture, width=4, denoising=True, **options)
    return build_backbone(config, channels=3, classes=5, image_size=size, mean=[0.4] * 3)


def softmax(values):
    weights = [math.exp(value) for value in values]
    return [weight / sum(weights) for weight in weights]


@torch.no_grad()
def test_attention_is_a_weighted_mean_over_places_and_over_channels():
    torch.manual_seed(0)
    layer, maps = _Attention(4).eval(), torch.randn(1, 4, 2, 3)
    assert torch.equal(layer(maps), maps)  # before training it does nothing
    nn.init.normal_(layer.query.weight)
    nn.init.normal_(layer.key.weight)
    for branch in (layer.places, layer.channels):
        nn.init.uniform_(branch[1].weight)
    query, key, value = (part(maps)[0].flatten(1) for part in (layer.query, layer.key, layer.value))
    by_place, by_channel = torch.zeros(2, 6), torch.zeros(2, 6)
    for here in range(6):
        likeness = softmax([float(query[:, here] @ key[:, there]) for there in range(6)])
        for there in range(6):
            by_place[:, here] += likeness[there] * value[:, there]
    for one in range(2):
        likeness = softmax([float(query[one] @ key[other]) for other in range(2)])
        for other in range(2):
            by_channel[one] += likeness[other] * value[other]
    expected = maps + layer.places(by_place.view(1, 2, 2, 3))
    expected = expected + layer.channels(by_channel.view(1, 2, 2, 3))
    torch.testing.assert_close(layer(maps), expected)


@pytest.mark.parametrize("size", [8, 12, 16])
def test_it_is_a_backbone_and_gives_what_the_training_needs(size):
    backbone, images = build(size=size).eval(), torch.rand(2, 3, size, size)
    logits = backbone.logits(images)
    outputs = backbone.heads_and_image(images)
    assert outputs.shape == (2, 5 + 4 + 3 * size**2)
    torch.testing.assert_close(outputs[:, :5], logits)
    torch.testing.assert_close(outputs[:, :9], backbone.heads(images))
    assert outputs[:, 9:].min() > 0 > outputs[:, 9:].max() - 1
    assert backbone.features(images).shape == (2, backbone.feature_dim)
    found = backbone.activations(images, backbone.stage_layers)
    for (_, value), maps in zip(found, backbone.stages(images), strict=True):
        torch.testing.assert_close(value, maps)
    assert backbone.get_submodule(backbone.head_name).out_features == 5


def test_untrained_it_computes_what_the_plain_backbone_computes():
    wrapped, images = build().eval(), torch.rand(2, 3, 8, 8)
    torch.manual_seed(0)
    plain = build_backbone(
        BackboneConfig(width=4), channels=3, classes=5, image_size=8, mean=[0.4] * 3
    )
    torch.testing.assert_close(wrapped(images), plain.eval()(images))


def test_the_wrapper_normalises_by_the_options():
    backbone = build(mean=[0.1], std=[0.5])
    assert backbone.mean.flatten().tolist() == pytest.approx([0.1] * 3)
    assert backbone.std.flatten().tolist() == pytest.approx([0.5] * 3)
    assert not backbone.inner.mean.any()


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet10t"])
def test_foreign_convolutional_backbones_are_wrapped(name):
    backbone, images = build(name, size=32), torch.rand(2, 3, 32, 32)
    backbone.train().heads_and_image(images).sum().backward()
    layers = [module for module in backbone.modules() if isinstance(module, _Attention)]
    assert len(layers) == 4
    assert all(layer.places[1].weight.grad.abs().sum() > 0 for layer in layers)


def test_tokens_are_refused():
    with pytest.raises(UserError, match="choose a convolutional backbone"):
        build("timm:vit_tiny_patch16_224", size=32)


def test_a_backbone_of_a_detector_folder_is_built_with_its_additions(tmp_path):
    from atd.detectors.energy import Energy

    backbone = build(outlier_class=True)
    of = {"classes": list("abcde"), "image_size": 8, "channels": 3}
    Energy(backbone, **of).save_pretrained(tmp_path / "detector")
    options = adopted(BackboneConfig(weights=str(tmp_path / "detector")), 8)
    assert options.denoising
    assert options.outlier_class
