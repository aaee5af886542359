"""Backbones: shapes, features, gradients and normalisation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atd.backbones import build_backbone
from atd.backbones.base import pool_statistics
from atd.config import BackboneConfig

ARCHITECTURES = ("preact_resnet18", "wide_resnet28", "wide_resnet34")


def build(architecture="preact_resnet18", channels=3, size=32, classes=5, **options):
    torch.manual_seed(0)
    config = BackboneConfig(architecture=architecture, **{"width": 4, **options})
    return build_backbone(config, channels=channels, classes=classes, image_size=size).eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("features", ["last", "multi"])
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 32), (3, 28)])
def test_contract(architecture, features, channels, size):
    backbone = build(architecture, channels, size, features=features)
    images = torch.rand(2, channels, size, size)
    stages = backbone.stages(images)
    assert len(stages) == 4
    assert all(a.shape[2] >= b.shape[2] for a, b in zip(stages, stages[1:], strict=False))
    assert backbone.features(images).shape == (2, backbone.feature_dim)
    assert backbone.embed(images).shape == (2, backbone.embedding_dim)
    assert backbone(images).shape == (2, backbone.classes) == (2, 5)
    torch.testing.assert_close(backbone.embed(images), stages[-1].mean((2, 3)))
    torch.testing.assert_close(backbone.classify(backbone.embed(images)), backbone(images))


def test_last_features_are_the_embedding_and_multi_joins_all_stages():
    images = torch.rand(2, 3, 16, 16)
    last, multi = build(size=16, features="last"), build(size=16, features="multi")
    torch.testing.assert_close(last.features(images), last.embed(images))
    expected = []
    for maps in multi.stages(images):
        expected += [maps.mean((2, 3)), (maps.var((2, 3), correction=0) + 1e-5).sqrt()]
    torch.testing.assert_close(multi.features(images), torch.cat(expected, 1))
    assert multi.feature_dim == 2 * (4 + 8 + 16 + 32)


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [("preact_resnet18", 12_548_426), ("wide_resnet28", 36_479_194), ("wide_resnet34", 46_160_474)],
)
def test_published_sizes(architecture, parameters):
    width = 64 if architecture == "preact_resnet18" else 160
    with torch.device("meta"):
        backbone = build(architecture, classes=10, width=width)
    assert sum(weight.numel() for weight in backbone.parameters()) == parameters


@pytest.mark.parametrize(
    ("size", "stem_stride", "first"),
    [(32, 0, 32), (64, 0, 64), (96, 0, 48), (224, 0, 56), (32, 2, 16), (64, 8, 8), (8, 8, 1)],
)
def test_stem_stride_follows_the_image_size(size, stem_stride, first):
    backbone = build(size=size, stem_stride=stem_stride)
    assert backbone.stages(torch.rand(1, 3, size, size))[0].shape[2] == first


def test_constant_images_have_finite_gradients():
    """A constant channel has zero deviation, where a bare square root has no gradient."""
    maps = torch.zeros(1, 2, 3, 3, requires_grad=True)
    pool_statistics(maps).sum().backward()
    assert maps.grad.isfinite().all()


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(ARCHITECTURES),
    st.integers(8, 40),
    st.sampled_from([1, 3]),
    st.sampled_from(["relu", "silu"]),
)
def test_every_size_gives_finite_features_and_gradients(architecture, size, channels, activation):
    backbone = build(architecture, channels, size, activation=activation)
    images = torch.rand(1, channels, size, size, requires_grad=True)
    backbone.features(images).sum().backward()
    assert images.grad.isfinite().all()
    assert images.grad.abs().sum() > 0


def test_normalisation_happens_inside_and_is_saved():
    config = BackboneConfig(width=4)
    options = {"channels": 3, "classes": 5, "image_size": 16}
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    inside = build_backbone(config, **options, mean=mean, std=std).eval()
    outside = build_backbone(config, **options).eval()
    weights = inside.state_dict()
    assert weights["mean"].shape == weights["std"].shape == (1, 3, 1, 1)
    outside.load_state_dict(weights | {"mean": outside.mean, "std": outside.std})
    images = torch.rand(2, 3, 16, 16)
    normalised = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(inside(images), outside(normalised))
    outside.load_state_dict(weights)
    torch.testing.assert_close(inside(images), outside(images))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_channels_last_changes_nothing(architecture):
    backbone = build(architecture, size=16)
    images = torch.rand(2, 3, 16, 16)
    expected = backbone.features(images)
    backbone = backbone.to(memory_format=torch.channels_last)
    actual = backbone.features(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_features_are_float32_under_autocast():
    backbone = build(size=16)
    with torch.autocast("cpu", torch.bfloat16):
        assert backbone.features(torch.rand(2, 3, 16, 16)).dtype == torch.float32


def test_every_parameter_learns():
    backbone = build(size=16).train()
    backbone(torch.rand(4, 3, 16, 16)).square().sum().backward()
    silent = [name for name, weight in backbone.named_parameters() if not weight.grad.any()]
    assert silent == []
