"""Adversarial images of a classifier: each attack does what its name says, in the ball."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from atd.attacks.classifier import CLASSIFIER_ATTACKS, adversarial_images

EPSILON = 0.05


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.SiLU(), nn.Linear(16, 4))
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    return 0.1 + 0.8 * torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def made(classifier, images, attack, **of):
    return adversarial_images(classifier, images, attack, epsilon=EPSILON, **of)


@pytest.mark.parametrize("attack", CLASSIFIER_ATTACKS)
def test_images_are_valid_and_in_the_ball(classifier, images, attack):
    found = made(classifier, images, attack)
    assert found.shape == images.shape
    assert 0 <= found.min() <= found.max() <= 1
    if attack != "negative":
        assert (found - images).abs().max() <= EPSILON + 1e-6
    assert not torch.equal(found, images)
    assert torch.equal(found, made(classifier, images, attack))


@pytest.mark.parametrize("attack", ["fgsm", "bim", "pgd"])
def test_the_cross_entropy_of_the_true_class_rises(classifier, images, attack):
    labels = torch.arange(20) % 4
    before = functional.cross_entropy(classifier(images), labels, reduction="none")
    found = made(classifier, images, attack, labels=labels)
    after = functional.cross_entropy(classifier(found), labels, reduction="none")
    assert (after > before).all()


def test_fgsm_takes_its_step_even_where_it_does_not_help():
    def classifier(x):  # least sure of the first class at a brightness of 0.52
        value = 1000 * (x.mean((1, 2, 3)) - 0.52) ** 2
        return torch.stack([value, torch.zeros_like(value)], 1)

    images = torch.full((2, 3, 4, 4), 0.5)
    found = made(classifier, images, "fgsm", labels=torch.zeros(2, dtype=torch.long))
    torch.testing.assert_close(found, images + EPSILON)


def test_more_steps_find_more(classifier, images):
    labels = classifier(images).argmax(1)

    def harm(found):
        return functional.cross_entropy(classifier(found), labels)

    one, many = made(classifier, images, "fgsm"), made(classifier, images, "bim", steps=20)
    assert harm(many) >= harm(one)


def test_the_margin_attack_stops_where_the_classifier_errs(classifier, images):
    before = classifier(images)
    found = adversarial_images(classifier, images, "margin", epsilon=0.3, steps=30)
    further = adversarial_images(classifier, images, "bim", epsilon=0.3, steps=30)
    assert (classifier(found).argmax(1) != before.argmax(1)).all()
    assert (found - images).abs().mean() < (further - images).abs().mean()


def test_the_least_likely_class_becomes_likelier(classifier, images):
    before = classifier(images).log_softmax(1)
    aims = before.argmin(1)
    after = classifier(made(classifier, images, "least_likely")).log_softmax(1)
    rows = torch.arange(20)
    assert (after[rows, aims] > before[rows, aims]).all()


def test_the_negative_is_the_complement(classifier, images):
    assert torch.equal(made(classifier, images, "negative"), 1 - images)


def test_seeds_change_random_starts_alone(classifier, images):
    assert not torch.equal(
        made(classifier, images, "pgd", seed=1), made(classifier, images, "pgd", seed=2)
    )
    assert torch.equal(
        made(classifier, images, "bim", seed=1), made(classifier, images, "bim", seed=2)
    )
