"""Generators and discriminators: the paper's sizes, ranges, and samples treated alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from atd.detectors.gan import (
    FeatureDiscriminator,
    FeatureGenerator,
    PixelDiscriminator,
    PixelGenerator,
)

NORMALISATIONS = ("layer", "batch", "none")


def linear_sizes(network):
    layers = [part for part in network.modules() if isinstance(part, nn.Linear)]
    return [layers[0].in_features, *(layer.out_features for layer in layers)]


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_layer_sizes_are_the_papers(normalisation):
    discriminator = FeatureDiscriminator(40, normalisation)
    generator = FeatureGenerator(40, 100, torch.zeros(40), normalisation)
    assert linear_sizes(discriminator) == [40, 512, 256, 128, 64, 1]
    assert linear_sizes(generator) == [100, 512, 256, 128, 256, 40]
    assert discriminator(torch.randn(7, 40)).shape == (7,)
    assert generator(torch.randn(7, 100)).shape == (7, 40)


@pytest.mark.parametrize("normalisation", ["layer", "none"])
@pytest.mark.parametrize("pixels", [False, True])
def test_discriminator_treats_each_sample_alone(normalisation, pixels):
    torch.manual_seed(0)
    if pixels:
        network = PixelDiscriminator(1, 16, normalisation, width=8)
        samples = torch.rand(6, 1, 16, 16)
    else:
        network, samples = FeatureDiscriminator(10, normalisation), torch.randn(6, 10)
    others = torch.cat([samples[:1], samples[1:] * 0.1])
    for mode in (True, False):
        network.train(mode)
        torch.testing.assert_close(network(samples)[:1], network(samples[:1]))
        torch.testing.assert_close(network(samples)[:1], network(others)[:1])


def test_batch_normalisation_mixes_a_training_batch():
    """The published form, and the reason why it is not the default."""
    torch.manual_seed(0)
    network, samples = FeatureDiscriminator(10, "batch").train(), torch.randn(6, 10)
    others = torch.cat([samples[:1], samples[1:] * 0.1])
    assert not torch.allclose(network(samples)[0], network(others)[0], rtol=1e-3, atol=0)


@given(
    seed=st.integers(0, 10**6),
    scale=st.floats(0, 1000),
    normalisation=st.sampled_from(NORMALISATIONS),
)
@settings(max_examples=15)
def test_generated_features_stay_above_the_floor(seed, scale, normalisation):
    torch.manual_seed(seed)
    floor = torch.randn(12)
    generator = FeatureGenerator(12, 5, floor, normalisation)
    assert (generator(scale * torch.randn(8, 5)) >= floor).all()


@pytest.mark.parametrize("size", [16, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_networks_at_every_size(size, channels):
    generator = PixelGenerator(channels, size, 10, "layer", width=4)
    discriminator = PixelDiscriminator(channels, size, "layer", width=4)
    images = generator(torch.randn(3, 10))
    assert images.shape == (3, channels, size, size)
    assert 0 <= images.min() <= images.max() <= 1
    assert discriminator(images).shape == (3,)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("pixels", [False, True])
def test_gradients_reach_every_parameter(normalisation, pixels):
    torch.manual_seed(0)
    if pixels:
        generator = PixelGenerator(3, 16, 10, normalisation, width=4)
        discriminator = PixelDiscriminator(3, 16, normalisation, width=4)
    else:
        generator = FeatureGenerator(12, 10, torch.zeros(12), normalisation)
        discriminator = FeatureDiscriminator(12, normalisation)
    (discriminator(generator(torch.randn(4, 10))) * torch.randn(4)).sum().backward()
    for name, parameter in [*generator.named_parameters(), *discriminator.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
