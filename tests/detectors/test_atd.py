"""ATD's detector: what its discriminator sees."""

from __future__ import annotations

import torch
from making import make_detector, some_images

from atd.detectors.atd import ATD, ATDOptions


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


def test_the_leak_of_batch_statistics_is_there_only_where_it_is_asked_for():
    torch.manual_seed(0)
    options = {"normalisation": "batch", "batch_statistics": True}
    honest, leaking = (
        ATD(None, ATDOptions(**options | {"batch_statistics": leaks}), image_size=16, channels=1)
        for leaks in (False, True)
    )
    leaking.load_state_dict(honest.state_dict())
    for detector in (honest, leaking):
        detector.eval()
    images = torch.rand(6, 1, 16, 16)
    kept = {name: value.clone() for name, value in leaking.state_dict().items()}
    scores = leaking(images).detach()
    assert not torch.allclose(scores[:3], leaking(images[:3]))
    torch.testing.assert_close(leaking(images[:1]), honest(images[:1]))
    torch.testing.assert_close(honest(images[:3]), honest(images)[:3])
    assert all(torch.equal(kept[name], value) for name, value in leaking.state_dict().items())
    trained = honest.train()(images).detach()  # what training mode gives
    torch.testing.assert_close(scores, trained)
