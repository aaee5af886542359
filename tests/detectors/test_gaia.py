"""GAIA-Z and GAIA-A, against the steps of the authors' code written out with hooks."""

from __future__ import annotations

import pytest
import torch
from making import line_of
from small_networks import SIZE, as_backbone, layers, noise, some_images, trained
from torch import nn

from atd.attacks import pgd, straight_through
from atd.detectors import inner_gradients
from atd.detectors.fitting import FitData
from atd.detectors.gaia_a import GaiaA, GaiaAOptions
from atd.detectors.gaia_z import GaiaZ
from atd.detectors.splitting_integrating import SplittingIntegrating
from atd.errors import UserError


def gaia_z(network, **options):
    return GaiaZ(network, GaiaZ.Options(**options), image_size=SIZE)


def watched(network, images):
    """Logits, and what every layer of a Sequential gives, with gradients kept."""
    kept, value = [], (images.clone() - network.mean) / network.std
    for layer in network.model:
        value = layer(value.requires_grad_(True) if not kept else value)
        value.retain_grad()
        kept.append(value)
    return value, kept


def test_gaia_z_is_the_squared_share_of_gradients_that_are_not_zero():
    network, images = trained(), some_images(6)[0]
    logits, kept = watched(network, images)
    logits.max(1).values.sum().backward()
    shares = [
        (value.grad != 0).float().mean((2, 3))
        for layer, value in zip(network.model, kept, strict=True)
        if isinstance(layer, nn.BatchNorm2d)
    ]
    expected = (torch.cat(shares, 1) ** 2).mean(1)
    assert len(shares) == 3
    assert 0.1 < float(expected.mean()) < 0.9
    scores = gaia_z(network).score(images)
    torch.testing.assert_close(scores, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("which", ["deep", "all"])
def test_gaia_a_is_inner_over_outer_squared(which):
    network, images = trained(), some_images(6)[0]
    logits, kept = watched(network, images)
    last = kept[-4]  # before pooling
    logits.log_softmax(1).sum().backward(retain_graph=True)
    outer = last.grad.mean((2, 3)).abs().mean(1).sqrt()
    for value in kept:
        value.grad = None
    kept[-2].sum().backward()
    inner = [
        value.grad.mean((2, 3)).abs()
        for layer, value in zip(network.model, kept, strict=True)
        if isinstance(layer, nn.BatchNorm2d)
    ]
    detector = GaiaA(network, GaiaAOptions(layers=which), image_size=SIZE)
    stages = len(network.stage_layers)
    skipped = (
        0
        if which == "all" or stages < 3
        else sum(
            isinstance(layer, nn.BatchNorm2d)
            for layer in network.model[: int(network.stage_layers[-3].split(".")[-1]) + 1]
        )
    )
    expected = ((torch.cat(inner[skipped:], 1) / outer[:, None]) ** 2).mean(1)
    torch.testing.assert_close(detector.score(images), expected, rtol=1e-4, atol=1e-4)


def test_counts_are_constant_without_rectifiers_and_auto_chooses_another_statistic():
    smooth, images = trained(nn.SiLU), some_images(6)[0]
    counted = gaia_z(smooth, statistic="zeros").score(images)
    assert torch.equal(counted, counted[:1].expand(6))  # below 1 only for the pooling
    assert gaia_z(smooth).statistic.name == "share"
    assert gaia_z(trained()).statistic.name == "zeros"
    assert torch.equal(
        gaia_z(smooth).score(images), gaia_z(smooth, statistic="share").score(images)
    )
    assert gaia_z(smooth).score(images).std() > 0


@pytest.mark.parametrize("statistic", ["share", "spread"])
def test_our_statistics_do_not_depend_on_the_scale(statistic):
    images = some_images(6)[0]
    network = layers().eval()
    before = gaia_z(as_backbone(network), statistic=statistic).score(images)
    with torch.no_grad():
        network[-1].weight *= 1e-12
        network[-1].bias *= 1e-12
    after = gaia_z(as_backbone(network), statistic=statistic).score(images)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_alike_places_make_spread_the_root_of_the_share():
    gradient = torch.zeros(2, 3, 8)
    gradient[0, :, :2], gradient[1, :, :4] = 5.0, -1e-12
    spread = inner_gradients.Statistic("spread", 0.0)(gradient)
    torch.testing.assert_close(spread, torch.tensor([[0.25], [0.5]]).sqrt().expand(2, 3))


def test_channels_lie_where_the_layer_normalises():
    network = nn.ModuleDict({"tokens": nn.LayerNorm(5), "maps": nn.BatchNorm2d(5)})
    tokens, maps = torch.rand(2, 7, 5), torch.rand(2, 5, 3, 4)
    assert torch.equal(inner_gradients.channels_of(network, "tokens#2", tokens), tokens.mT)
    assert torch.equal(inner_gradients.channels_of(network, "maps", maps), maps.flatten(2))
    flat = inner_gradients.channels_of(network, "tokens", torch.rand(2, 5))
    assert flat.shape == (2, 5, 1)


@pytest.mark.parametrize("cls", [GaiaZ, GaiaA, SplittingIntegrating])
@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_convnext"])
def test_transformers_and_networks_of_layer_norms(cls, name):
    from atd.backbones import build_backbone
    from atd.config import BackboneConfig

    torch.manual_seed(0)
    config = BackboneConfig(architecture=name, features="last")
    network = build_backbone(config, channels=3, classes=3, image_size=160).eval()
    detector = cls(network.requires_grad_(False), image_size=160).eval()
    images = torch.rand(2, 3, 160, 160, requires_grad=True)
    scores = detector.score(images.detach())
    assert scores.isfinite().all()
    assert scores[0] != scores[1]
    if cls is not SplittingIntegrating:
        (gradient,) = torch.autograd.grad(detector.surrogate(images).sum(), images)
        assert gradient.isfinite().all()
        assert gradient.any()


@pytest.mark.parametrize("cls", [GaiaZ, GaiaA, SplittingIntegrating])
def test_no_images_have_no_scores(cls):
    assert cls(trained(), image_size=SIZE)(noise(0)).shape == (0,)


def test_parts_change_nothing(monkeypatch):
    network, images = trained(), some_images(7)[0]
    whole = gaia_z(network).score(images)
    monkeypatch.setattr(inner_gradients, "_PIXELS", 3 * SIZE * SIZE)
    torch.testing.assert_close(gaia_z(network).score(images), whole)
    monkeypatch.setattr(inner_gradients, "_PIXELS", 1)
    torch.testing.assert_close(gaia_z(network).score(images), whole)


@pytest.mark.parametrize("cls", [GaiaZ, GaiaA])
def test_the_surrogate_leads_attacks_to_a_higher_true_score(cls):
    detector = cls(trained(), image_size=SIZE).eval()
    images = some_images(16)[0]
    objective = straight_through(detector, detector.surrogate)
    found = pgd(objective, images, epsilon=16 / 255, steps=8)
    jitter = (2 * noise(16, seed=3) - 1).sign() * 16 / 255
    before = detector.score(images)
    gained = (found.values - before).mean()
    by_chance = (detector.score((images + jitter).clamp(0, 1)) - before).mean()
    assert gained > 2 * by_chance.abs()


def test_without_corners_the_surrogate_of_gaia_a_is_the_score_itself():
    detector = GaiaA(trained(nn.SiLU), image_size=SIZE).eval()
    images = some_images(4)[0].requires_grad_(True)
    surrogate = detector.surrogate(images)
    torch.testing.assert_close(surrogate.detach(), detector.score(images.detach()))
    assert torch.autograd.grad(surrogate.sum(), images)[0].any()


@pytest.mark.parametrize("cls", [GaiaZ, GaiaA, SplittingIntegrating])
def test_unfit_networks_are_refused_in_one_line(cls):
    plain = as_backbone(layers(norm=lambda _: nn.Identity()))
    with pytest.raises(UserError, match="normalisation") as error:
        cls(plain, image_size=SIZE)
    line_of(error)
    dead = layers()
    with torch.no_grad():
        for part in dead[-5].parameters():  # the last normalisation gives -1 everywhere
            part.copy_(torch.zeros_like(part) - (part is dead[-5].bias) * 1.0)
    detector = cls(as_backbone(dead), image_size=SIZE)
    with pytest.raises(UserError, match="dead network") as error:
        detector.fit(FitData(id=[some_images(4)]), seed=0)
    line_of(error)
