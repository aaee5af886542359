"""ATD's detector: what its discriminator sees."""

from __future__ import annotations

import torch
from making import make_detector, some_images


def test_features_are_standardised():
    detector, images = make_detector().eval(), some_images(64).float() / 255
    with torch.no_grad():
        raw = detector.features(images)
        detector.feature_mean.copy_(raw.mean(0))
        detector.feature_std.copy_(raw.std(0))
        features = detector.features(images)
    torch.testing.assert_close(features.mean(0), torch.zeros(raw.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(0), torch.ones(raw.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(features, (raw - raw.mean(0)) / raw.std(0))


def test_without_a_backbone_the_discriminator_sees_the_pixels():
    detector, images = make_detector(backbone=False), some_images().float() / 255
    assert detector.backbone is None
    assert torch.equal(detector.features(images), images)
