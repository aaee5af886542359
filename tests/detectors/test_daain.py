import copy
import dataclasses
import sys

import numpy as np
import pytest
import torch
from making import line_of

import atd
from atd.attacks import pgd
from atd.backbones import allow_import, build_backbone
from atd.config import BackboneConfig
from atd.detectors.base import Detector
from atd.detectors.daain import DAAIN, DAAINOptions
from atd.detectors.export import export_detector
from atd.errors import UserError
from atd.metrics import auroc
from tests.detectors.fitted_kinds import (
    CLASSES,
    SIZE,
    fit,
    fit_data,
    fitted,
    id_images,
    ood_images,
    trained_backbone,
    unfitted,
)

SMALL = {"points": 64, "blocks": 2, "hidden": 8, "epochs": 12, "lr": 5e-3}


def test_the_heads_read_the_same_flow():
    images = torch.cat([id_images(3, seed=1)[0], ood_images(9, seed=2)])
    detector = fitted("daain")
    values = detector.features(images)
    transformed, log_determinant = detector.flow(values)
    likelihood = -torch.distributions.Normal(0, 1).log_prob(transformed).sum(1) - log_determinant
    constant = np.log(2 * np.pi) / 2
    torch.testing.assert_close(detector(images), likelihood / values.shape[1] - constant)
    for head, expected in (
        ("euclidean", (transformed**2).sum(1) / values.shape[1]),
        ("histogram", detector.histogram(transformed)),
    ):
        other = fit(unfitted("daain", head=head))
        torch.testing.assert_close(other(images), expected)


@pytest.mark.parametrize("head", ["euclidean", "histogram"])
def test_every_head_tells_out_from_in_and_follows_a_true_gradient(head):
    detector = fit(unfitted("daain", head=head))
    inside, outside = id_images(20, seed=5)[0], ood_images(60, seed=6)
    assert auroc(detector.score(inside).numpy(), detector.score(outside).numpy()) > 0.9
    assert detector.info.gradient == ("surrogate" if head == "histogram" else "exact")
    exact = copy.deepcopy(detector).double()
    points = inside[:6].double().clamp(0.1, 0.9).requires_grad_(True)
    (gradient,) = torch.autograd.grad(exact.surrogate(points).sum(), points)
    direction = torch.randn(points.shape, dtype=torch.float64)
    with torch.no_grad():
        ends = [exact.surrogate(points + step * direction) for step in (1e-6, -1e-6)]
    slope = (gradient * direction).flatten(1).sum(1)
    error = ((ends[0] - ends[1]) / 2e-6 - slope).abs() / slope.abs()
    assert error.median() < 1e-3


def test_standardised_on_the_images_of_the_fit():
    detector = fitted("daain")
    values = torch.cat([detector.features(images) for images, _ in fit_data().id])
    live = values.std(0) > 0.5
    assert live.float().mean() > 0.5
    torch.testing.assert_close(values.mean(0), torch.zeros(values.shape[1]), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        values[:, live].std(0, correction=0), torch.ones(int(live.sum())), atol=0.05, rtol=0
    )


def test_the_key_has_the_distance_that_was_asked_for():
    detector = fit(unfitted("daain", radius=7.0))
    points = detector.key.double()
    apart = torch.cdist(points, points) + 100 * torch.eye(len(points))
    assert apart.min() >= 7
    assert len(detector.places.unique()) == len(detector.places) <= len(points)
    other = fit(unfitted("daain", radius=7.0, key_seed=1))
    assert not torch.equal(detector.key[:5], other.key[:5])


def test_it_is_attacked_through_the_flow():
    detector = fitted("daain")
    inside, outside = id_images(10, seed=8)[0], ood_images(30, seed=9)
    clean = auroc(detector.score(inside).numpy(), detector.score(outside).numpy())
    options = {"epsilon": 0.1, "steps": 10}
    raised = pgd(detector.surrogate, inside, **options).values
    lowered = -pgd(lambda x: -detector.surrogate(x), outside, **options).values
    assert auroc(raised.numpy(), lowered.numpy()) < clean - 0.3


@pytest.mark.parametrize("head", ["nll", "histogram"])
def test_it_is_fitted_and_judged_from_python(head):
    images, labels = id_images(30, seed=20)
    detector = atd.fit("daain", trained_backbone(), images, labels=labels, head=head, **SMALL)
    report = atd.evaluate(
        detector,
        id_test=id_images(8, seed=21)[0],
        ood={"grey": ood_images(24, seed=22)},
        epsilon="2/255",
        tier="smoke",
    )
    assert report.mean["clean"]["auroc"] > 0.9
    assert report.mean["both"]["auroc"] <= report.mean["clean"]["auroc"]


@pytest.mark.parametrize("architecture", ["timm:vit_tiny_patch16_224", "torchvision:resnet18"])
def test_foreign_backbones_are_saved_and_loaded(architecture, tmp_path):
    config = BackboneConfig(architecture=architecture)
    backbone = build_backbone(config, channels=3, classes=3, image_size=32).eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(24, 3, 32, 32, generator=generator)
    data = dataclasses.replace(fit_data(), id=[(images, torch.full((24,), -1))], outliers=None)
    options = DAAINOptions(**{**SMALL, "epochs": 2})
    detector = DAAIN(backbone, options, image_size=32, classes=CLASSES).eval().fit(data, seed=0)
    detector.save_pretrained(tmp_path / "detector")
    loaded = Detector.from_pretrained(tmp_path / "detector")
    assert torch.equal(loaded.score(images), detector.score(images))


def test_the_map_shows_where_an_image_is_unlikely():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 16, 1), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, padding=1)]
    network = torch.nn.Sequential(*layers).requires_grad_(False)
    options = DAAINOptions(**{**SMALL, "points": 256})
    detector = DAAIN(network, options, image_size=SIZE).eval().fit(fit_data(), seed=0)
    first, last = id_images(8, seed=30)[0], id_images(8, seed=30)[0]
    first[:, 1, :3, :3] = last[:, 1, 5:, 5:] = 1.0
    maps = detector.score_map(first), detector.score_map(last)
    assert maps[0].shape == (24, SIZE, SIZE)
    difference = maps[0] - maps[1]
    assert (difference[:, :3, :3].mean((1, 2)) > 0).float().mean() > 0.9
    assert (difference[:, 5:, 5:].mean((1, 2)) < 0).float().mean() > 0.9


def test_a_key_of_another_network_is_one_line():
    detector = copy.deepcopy(fitted("daain"))
    config = BackboneConfig(width=8, features="last")
    detector.backbone = build_backbone(config, channels=3, classes=3, image_size=SIZE)
    with pytest.raises(UserError) as error:
        detector.score(ood_images(1, 0))
    assert "fit it to this network" in line_of(error)


def test_a_dead_network_is_one_line():
    detector = unfitted("daain")
    images = torch.full((6, 3, SIZE, SIZE), 0.5)
    with pytest.raises(UserError) as error:
        detector.fit(fit_data(id=[(images, torch.zeros(6, dtype=torch.long))]), seed=0)
    assert "dead" in line_of(error)


def test_a_radius_that_leaves_nothing_is_one_line():
    with pytest.raises(UserError) as error:
        unfitted("daain", radius=10_000.0).fit(fit_data(), seed=0)
    assert "detector.radius=10000" in line_of(error)


@pytest.mark.parametrize(
    "damage", [{"places": -1}, {"spread": -1.0}, {"flow.order": 0}, {"volume": 1}]
)
def test_damaged_files_are_refused(damage, tmp_path):
    detector = copy.deepcopy(fitted("daain"))
    for name, value in damage.items():
        detector.get_buffer(name).fill_(value)
    detector.save_pretrained(tmp_path / "detector")
    with pytest.raises(UserError) as error:
        Detector.from_pretrained(tmp_path / "detector")
    assert "damaged" in line_of(error)


def test_without_zuko_the_remedy_is_told_before_anything_is_made(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(UserError) as error:
        unfitted("daain")
    assert "pip install zuko" in line_of(error)


def test_options_have_ranges():
    for name, value in (("blocks", 0), ("points", 1), ("radius", 0.5), ("lr", 0), ("head", "mean")):
        with pytest.raises(ValueError, match=f"detector.{name}"):
            DAAINOptions(**{name: value})
    assert DAAINOptions(radius="null", head="euclidean").radius is None


@pytest.fixture
def network():
    """A network that gives classes of every pixel."""
    allow_import("import:nets:segments")
    config = BackboneConfig(architecture="import:nets:segments")
    network = build_backbone(config, channels=3, classes=1, image_size=8)
    with torch.no_grad():  # as a training would
        network.model[0][1].running_mean += 0.1
    return network


@pytest.mark.slow
def test_on_a_network_of_pixel_classes_it_is_exported_for_any_batch(network, tmp_path):
    images = torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    detector = atd.fit("daain", network, images, **SMALL)
    folder = export_detector(detector, tmp_path / "export", ["pt2", "onnx"])
    program = torch.export.load(folder / "detector.pt2").module()
    pixels = (images * 255).round().to(torch.uint8)
    for count in (0, 1, 2, 7):
        scores = program(pixels[:count]).detach()
        torch.testing.assert_close(scores, detector.score(pixels[:count]), rtol=1e-4, atol=1e-4)


def test_a_detector_on_a_network_of_pixel_classes_is_saved_and_attacked(network, tmp_path):
    images = torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    detector = atd.fit("daain", network, images, **SMALL)
    detector.save_pretrained(tmp_path / "detector")
    loaded = atd.load(tmp_path / "detector")
    assert torch.equal(loaded.score(images), detector.score(images))
    torch.testing.assert_close(loaded.backbone(images), network.eval()(images))
    attacked = pgd(loaded.surrogate, images[:4], epsilon=0.1, steps=3).images
    assert (loaded.score(attacked) > loaded.score(images[:4])).all()
    assert loaded.score_map(images[:2]).shape == (2, 8, 8)
    with pytest.raises(UserError, match="detector.kind=msp: import:nets:segments gives classes of"):
        atd.fit("msp", network, images)
