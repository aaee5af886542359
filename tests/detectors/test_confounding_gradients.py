"""Confounding labels: the vector, the protocols' names, the statistic without a fit."""

from __future__ import annotations

import pytest
import torch
from making import line_of
from small_networks import SIZE, as_backbone, layers, noise, some_images, trained
from torch import nn

from atd.attacks import pgd
from atd.detectors.confounding_gradients import (
    ConfoundingGradients,
    ConfoundingGradientsOptions,
)
from atd.detectors.fitting import FitData
from atd.errors import UserError
from atd.metrics import auroc


def detector_of(network=None, **options):
    chosen = ConfoundingGradientsOptions(**options)
    return ConfoundingGradients(network or trained(), chosen, image_size=SIZE).eval()


def data(outside=None):
    outliers = [(noise(60, seed=5) if outside is None else outside, torch.full((60,), -1))]
    return FitData(id=[some_images(60, seed=4)], outliers=outliers)


@pytest.mark.parametrize("label", [[], [1.0, 1.0], [0.0, 1.0], [0.5, 0.25]])
def test_the_vector_is_the_gradient_for_the_label(label):
    detector, images = detector_of(label=label), some_images(3)[0]
    wanted = torch.tensor(label or [1.0, 1.0])
    network = trained()
    weights = list(network.parameters())
    for parameter in weights:
        parameter.requires_grad_(True)
    for image, found in zip(images, detector.norms(images), strict=True):
        probability = network(image[None])[0].sigmoid()
        cross = wanted * probability.log() + (1 - wanted) * (1 - probability).log()
        slopes = torch.autograd.grad(-cross.mean(), weights)
        right = torch.stack([slope.square().sum() for slope in slopes])
        torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-9)
    network.requires_grad_(False)


def test_it_tells_outliers_and_says_how_well():
    detector = detector_of().fit(data(), seed=0)
    inside, outside = some_images(50, seed=8)[0], noise(50, seed=9)
    assert auroc(detector.score(inside).numpy(), detector.score(outside).numpy()) > 0.95
    assert detector.held_out[0] > 0.9


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("outliers", "fitted on outliers only"),
        ("leave_one_out", "fitted on the other anomalies"),
        ("anomaly", "fitted on the anomaly tested"),
    ],
)
def test_its_name_tells_what_it_was_fitted_on(protocol, words, tmp_path):
    detector = detector_of(protocol=protocol)
    detector.fit(data(), seed=0)
    assert detector.config.name == f"detector ({words})"
    assert detector.fit(data(), seed=0).config.name == f"detector ({words})"
    assert detector.config.options["protocol"] == protocol


def test_the_sum_needs_no_fit():
    detector, images = detector_of(head="sum"), some_images(4)[0]
    torch.testing.assert_close(detector.score(images), detector.norms(images).log().sum(1))
    assert detector.fit(FitData(id=[]), seed=0) is detector


def test_attacks_go_through_the_gradients():
    detector = detector_of().fit(data(), seed=0)
    images = noise(16, seed=11)
    found = pgd(lambda x: -detector(x), images, epsilon=16 / 255, steps=8)
    before = detector.score(images)
    jitter = (2 * noise(16, seed=3) - 1).sign() * 16 / 255
    by_chance = (detector.score((images + jitter).clamp(0, 1)) - before).mean()
    assert (-found.values - before).mean() < -3 * by_chance.abs()


def test_without_corners_the_surrogate_is_the_score_itself():
    detector = detector_of(trained(nn.SiLU)).fit(data(), seed=0)
    images = noise(4, seed=11)
    assert torch.equal(detector.surrogate(images), detector(images))
    rectified = detector_of().fit(data(), seed=0)
    assert not torch.equal(rectified.surrogate(images), rectified(images))


def test_faults_are_one_line_each():
    with pytest.raises(UserError, match="3 values.*2 classes") as error:
        detector_of(label=[1, 0, 1])
    line_of(error)
    with pytest.raises(UserError, match=r"data\.outliers") as error:
        detector_of().fit(FitData(id=[some_images(20)]), seed=0)
    line_of(error)
    dead = layers()
    with torch.no_grad():
        for parameter in dead[-1].parameters():
            parameter.copy_(torch.zeros_like(parameter))
        dead[-1].bias += 200  # every class is certain: there is nothing to be learnt
    with pytest.raises(UserError, match="dead network") as error:
        detector_of(as_backbone(dead)).fit(data(), seed=0)
    line_of(error)
