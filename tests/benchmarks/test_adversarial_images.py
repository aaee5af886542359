"""Three protocols of one detector, on attacks of its classifier."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from atd.attacks.classifier import CLASSIFIER_ATTACKS
from atd.backbones.foreign import ForeignBackbone
from benchmarks import adversarial_images
from benchmarks.adversarial_images import PROTOCOLS, adversarial_sets, protocol_rows, table


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    wrapped = ForeignBackbone(network, "small", channels=3, image_size=8, features="last")
    return wrapped.eval().requires_grad_(False)


def images(count, mean, seed):
    generator = torch.Generator().manual_seed(seed)
    return mean + 0.1 * torch.rand(count, 3, 8, 8, generator=generator)


def test_each_attack_makes_a_set(backbone):
    inside = images(6, 0.4, 0)
    sets = adversarial_sets(backbone, inside, None, epsilon=0.03, steps=2)
    assert tuple(sets) == CLASSIFIER_ATTACKS
    labelled = adversarial_sets(backbone, inside, torch.arange(6) % 2, epsilon=0.03, steps=2)
    assert not torch.equal(labelled["bim"], sets["bim"])
    assert torch.equal(labelled["negative"], sets["negative"])
    unlabelled = adversarial_sets(backbone, inside, torch.full((6,), -1), epsilon=0.03, steps=2)
    assert torch.equal(unlabelled["bim"], sets["bim"])


def test_protocols_know_what_they_say(backbone, monkeypatch):
    inside = images(60, 0.4, 0)
    anomalies = {"bright": images(60, 0.8, 1), "dark": images(60, 0.0, 2)}
    seen = []
    plain = adversarial_images._fit
    monkeypatch.setattr(
        adversarial_images,
        "_fit",
        lambda network, fitted, outside, seed, options: (
            seen.append((options["protocol"], float(outside.mean()), len(fitted)))
            or plain(network, fitted, outside, seed, options)
        ),
    )
    rows = protocol_rows(backbone, inside, anomalies, images(60, 0.9, 3), epochs=40, hidden=16)
    assert [(protocol, count) for protocol, _, count in seen] == [
        ("outliers", 30),
        *[("leave_one_out", 30)] * 2,
        *[("anomaly", 30)] * 2,
    ]
    means = [mean for _, mean, _ in seen]
    assert means == pytest.approx([0.95, 0.05, 0.85, 0.85, 0.05], abs=0.02)
    assert rows["bright"]["anomaly"] > 0.95
    assert rows["dark"]["anomaly"] > 0.95
    assert set(rows["dark"]) == set(PROTOCOLS)


def test_the_table_tells_the_protocols_apart():
    row = dict(zip(PROTOCOLS, (0.5, 0.6, 0.7), strict=True))
    lines = table({"fgsm": row}).splitlines()
    assert "outliers only" in lines[0]
    assert "itself (paper)" in lines[0]
    assert lines[2] == "| fgsm | 50.0 | 60.0 | 70.0 |"


def test_the_published_page_is_made_of_its_record():
    docs = Path(__file__).parents[2] / "docs"
    record = json.loads((docs / "confounding_gradients.json").read_text(encoding="utf-8"))
    published = (docs / "confounding_gradients.md").read_text(encoding="utf-8")
    assert adversarial_images.page(record) == published
