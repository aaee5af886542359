"""What `import atd` offers."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch
from torch import nn

import atd
from atd.backbones import build_backbone
from atd.config import BackboneConfig
from atd.detectors.atd import ATD
from atd.errors import UserError


@pytest.fixture(scope="module")
def images():
    return torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    config = BackboneConfig(width=4, features="last")
    return build_backbone(config, channels=3, classes=4, image_size=8)


def test_fitted_saved_and_loaded(backbone, images, tmp_path):
    flags = [parameter.requires_grad for parameter in backbone.parameters()]
    detector = atd.fit("energy", backbone, images, temperature=2, name="mine")
    assert (detector.kind, detector.config.name) == ("energy", "mine")
    assert detector.options.temperature == 2
    assert detector.config.classes == ["0", "1", "2", "3"]
    expected = -2 * torch.logsumexp(backbone.eval()(images) / 2, 1)
    torch.testing.assert_close(detector.score(images), expected.detach())
    backbone.train()
    assert not detector.training
    assert [parameter.requires_grad for parameter in backbone.parameters()] == flags
    detector.save_pretrained(tmp_path / "detector")
    loaded = atd.load(tmp_path / "detector")
    assert torch.equal(loaded.score(images), detector.score(images))
    again = atd.fit("energy", tmp_path / "detector", images)
    other = atd.fit("energy", detector, images)
    assert torch.equal(again.score(images), other.score(images))


def test_the_head_of_a_fine_tuned_atd_is_not_read(backbone, images):
    detector = ATD(backbone, image_size=8, classes=list("abcd"), name="mine")
    detector.config = dataclasses.replace(
        detector.config, training={"atd": {"finetune": True}, "run": {}}
    )
    fitted = atd.fit("mahalanobis", detector, images, labels=[0, 1, 2, 3] * 5)
    for source in (detector, fitted, fitted.backbone):  # the head is gone from there on
        with pytest.raises(UserError, match=r"kind energy reads class logits.*atd\.finetune"):
            atd.fit("energy", source, images)
    assert not detector.backbone.lacks_head


def test_any_classifier_is_a_backbone(images, tmp_path):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(4, 5))
    detector = atd.fit("energy", network, images)
    expected = -torch.logsumexp(network.eval()(images), 1).detach()
    torch.testing.assert_close(detector.score(images), expected)
    with pytest.raises(UserError, match="build_backbone"):
        detector.save_pretrained(tmp_path / "detector")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda b, x: atd.fit("enrgy", b, x), "energy"),
        (lambda b, x: atd.fit("atd", b, x), "train.py"),
        (lambda b, x: atd.fit("energy", b, x, temprature=2), "temperature"),
        (lambda b, x: atd.fit("energy", b, x, temperature=0), "temperature"),
        (lambda b, x: atd.fit("energy", b, 7), "int"),
        (lambda b, x: atd.fit("energy", b, x, scale="13bit"), "scale"),
        (lambda b, x: atd.load("nowhere"), "nowhere"),
        (lambda b, x: atd.load("import:nowhere_at_all:make"), "nowhere_at_all"),
    ],
)
def test_mistakes_are_named_in_one_line(backbone, images, call, words):
    with pytest.raises(UserError) as error:
        call(backbone, images)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_importing_it_loads_nothing_heavy():
    code = "import atd, sys; assert 'torch' not in sys.modules; print(atd.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == atd.__version__
    code = "import atd, sys; atd.load; assert not {'torch._dynamo', 'sklearn'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError):
        atd.nothing  # noqa: B018
