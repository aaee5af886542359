"""S & I: the released computation and the paper's integral, against sub-networks run by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from making import line_of
from small_networks import SIZE, WIDTH, as_backbone, layers, some_images, trained
from torch import nn
from torch.nn import functional

from atd.attacks import pgd, straight_through
from atd.detectors.gaia_z import GaiaZ
from atd.detectors.splitting_integrating import SplittingIntegrating, SplittingIntegratingOptions
from atd.errors import UserError


def detector_of(network=None, **options):
    chosen = SplittingIntegratingOptions(**options)
    return SplittingIntegrating(network or trained(), chosen, image_size=SIZE).eval()


def by_hand(network, images, *, variant, combine="add", steps=2, eta=0.001):
    """A of every split (N, C, P), from the part of the Sequential that follows it."""
    value, found = (images - network.mean) / network.std, []
    predicted = network(images).argmax(1)
    for position, layer in enumerate(network.model):
        value = layer(value)
        if not isinstance(layer, nn.BatchNorm2d):
            continue
        rest = network.model[position + 1 :]

        def gradient(point, loss, rest=rest):
            point = point.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(loss(rest(point)), point)
            return slope

        def entropy(logits):
            return functional.cross_entropy(logits, predicted, reduction="sum")

        point, step, gradients, integral = value, value, [], 0
        for _ in range(steps):
            gradients.append(gradient(point, lambda logits: logits.amax(1).sum()))
            slope = gradient(point, entropy)
            integral = integral + step * slope
            step = eta * slope.sign()
            point = point + step
        joined = torch.stack(gradients)
        released = joined.sum(0) if combine == "add" else joined.prod(0)
        found.append((integral if variant == "paper" else released).flatten(2))
    return found


@pytest.mark.parametrize("combine", ["add", "multiply"])
@pytest.mark.parametrize(("steps", "eta"), [(1, 0.1), (2, 0.001), (4, 0.3)])
def test_released_joins_gradients_of_the_largest_logit(combine, steps, eta):
    images, of = some_images(6)[0], {"combine": combine, "steps": steps, "eta": eta}
    detector = detector_of(variant="released", **of)
    expected = by_hand(trained(), images, variant="released", **of)
    for found, right in zip(detector.attributions(images), expected, strict=True):
        torch.testing.assert_close(found, right)


@pytest.mark.parametrize(("steps", "eta"), [(1, 0.1), (2, 0.001), (5, 0.1)])
def test_paper_integrates_the_cross_entropy_along_the_path(steps, eta):
    images, of = some_images(6)[0], {"steps": steps, "eta": eta}
    detector = detector_of(variant="paper", **of)
    expected = by_hand(trained(), images, variant="paper", **of)
    for found, right in zip(detector.attributions(images), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-6)


def test_nothing_is_lost_where_the_network_is_sure():
    network, images = copy.deepcopy(trained()), some_images(6)[0]
    gaps = network(images).diff(dim=1).abs()
    assert gaps.max() < 3.5 * gaps.min()
    with torch.no_grad():
        for parameter in network.model[-1].parameters():
            parameter *= 25 / gaps.max()  # float64 is still exact there
    found = detector_of(network, variant="paper").attributions(images)
    expected = by_hand(network.double(), images.double(), variant="paper")
    for part, right in zip(found, expected, strict=True):
        cosine = functional.cosine_similarity(part.double().flatten(1), right.flatten(1), eps=1e-60)
        assert (cosine > 0.999).all()


@pytest.mark.parametrize("eta", [1e-4, 1e-3])
def test_adding_equals_gaia_z(eta):
    """Long steps can exchange the winners of a pooling, and with them the places counted."""
    images = torch.cat([some_images(20)[0], torch.rand(20, 3, SIZE, SIZE)])
    expected = GaiaZ(trained(), image_size=SIZE).score(images)
    found = detector_of(eta=eta, combine="add").score(images)
    assert (found - expected).abs().max() <= 1e-3
    assert expected.std() > 0.01


def test_multiplying_differs_a_little():
    images = torch.cat([some_images(20)[0], torch.rand(20, 3, SIZE, SIZE)])
    expected = GaiaZ(trained(), image_size=SIZE).score(images)
    apart = (detector_of(eta=0.1, combine="multiply").score(images) - expected).abs()
    assert 0 < float(apart.max()) < 0.1


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({"steps": 1}, 3),
        ({"steps": 2}, 3 + 3 * 2),
        ({"steps": 3}, 3 + 3 * 5),
        ({"steps": 1, "variant": "paper"}, 2),
        ({"steps": 3, "variant": "paper"}, 2 + 3 * 4),
    ],
)
def test_its_passes_are_told(monkeypatch, options, passes):
    detector, images = detector_of(**options), some_images(2)[0]
    counted = []
    plain = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: counted.append(1) or plain(*a, **k))
    handle = detector.backbone.model[0].register_forward_hook(lambda *_: counted.append(1))
    detector(images)
    handle.remove()
    assert detector.info.passes == len(counted) == passes


@pytest.mark.parametrize("options", [{}, {"combine": "multiply"}, {"variant": "paper"}])
@pytest.mark.parametrize("statistic", ["auto", "share", "spread"])
def test_the_surrogate_leads_attacks_to_a_higher_true_score(options, statistic):
    detector = detector_of(statistic=statistic, **options)
    images = some_images(16)[0]
    objective = straight_through(detector, detector.surrogate)
    found = pgd(objective, images, epsilon=16 / 255, steps=5)
    assert (found.values > detector.score(images)).float().mean() > 0.8


def test_one_class_is_refused():
    network = layers()
    network[-1] = nn.Linear(WIDTH, 1)
    with pytest.raises(UserError, match="at least two classes") as error:
        detector_of(as_backbone(network))
    line_of(error)
