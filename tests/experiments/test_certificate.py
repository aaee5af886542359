"""The page of certificates, at smoke scale and from rows."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from atd.commands import reproduce
from atd.evaluation.certified import Attempt, Certificate, CertifiedAuroc
from atd.evaluation.results import Provenance
from atd.reporting.certificate_page import CertifiedRow, certificate_page

FEW = ["data.ood_test=bundled:lowercase", "data.ood_limit=8", "run.device=cpu"]


def row(seed: int, both: float) -> CertifiedRow:
    points = [
        CertifiedAuroc(radius, radius / 16, both + 0.1, both + 0.2, both - radius, radius / 2)
        for radius in (0.0, 0.5)
    ]
    found = Certificate(
        norm="l2", sigma=0.25, draws=100, confidence=0.99, error=1e-4, images=50, smoothed=0.9,
        mean=points, datasets={"a": points}, attack="PGD-10", attacked=8,
        attempts=[Attempt(0.5, 0.85, both)],
    )  # fmt: skip
    facts = Provenance("c0ffee", {}, "CPU", seed, None, 1.0, "2026-11-26T00:00:00+00:00")
    return CertifiedRow("configs/digits.yaml", "small", (), "atd", facts, found)


def test_the_page_tells_mean_and_range_over_seeds():
    page = certificate_page([row(0, 0.7), row(1, 0.6)], "certificate.png")
    assert "| 0.5 | 7.969/255 | 75.0 (70.0 to 80.0) | 85.0 (80.0 to 90.0) |" in page
    assert "**15.0** (10.0 to 20.0) | 85.0 (65.0) | 25.0 |" in page
    assert "![Certified AUROC against the L2 radius](certificate.png)" in page
    assert "commit c0ffee" in page


def test_a_refused_row_says_why():
    refused = CertifiedRow(
        "configs/digits.yaml", "small", (), "daain", row(0, 0.7).provenance, None, "it is absent"
    )
    page = certificate_page([refused], "certificate.png")
    assert "`daain`: it is absent." in page
    assert "![" not in page


@pytest.mark.slow
def test_at_smoke_scale(tmp_path):
    words = ["--scale", "smoke", "--work", str(tmp_path), "--kinds", "msp", *FEW]
    reproduce.main(["certificate", *words])
    (found,) = json.loads((tmp_path / "certificate.json").read_text()).values()
    assert found["certificate"]["draws"] == 60
    assert len(found["certificate"]["mean"]) == 7
    with Image.open(tmp_path / "certificate.png") as picture:
        assert min(picture.size) > 400
    assert "certificate.png" in (tmp_path / "certificate.md").read_text()
