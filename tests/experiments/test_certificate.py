"""What the page of certificates says; it is made in test_figures.py."""

from __future__ import annotations

from atd.evaluation.certified import Attempt, Certificate, CertifiedAuroc
from atd.evaluation.results import Provenance
from atd.reporting.certificate_page import CertifiedRow, certificate_page

SETTING = {"config": "configs/digits.yaml", "scale": "small", "overrides": ()}


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
    return CertifiedRow(**SETTING, name="atd", provenance=facts, certificate=found)


def test_the_page_tells_mean_and_range_over_seeds():
    page = certificate_page([row(0, 0.7), row(1, 0.6)], "certificate.png")
    assert "| 0.5 | 7.969/255 | 75.0 (70.0 to 80.0) | 85.0 (80.0 to 90.0) |" in page
    assert "**15.0** (10.0 to 20.0) | 85.0 (65.0) | 25.0 |" in page
    assert "![Certified AUROC against the L2 radius](certificate.png)" in page
    assert "commit c0ffee" in page


def test_a_refused_row_says_why():
    facts = row(0, 0.7).provenance
    refused = CertifiedRow(**SETTING, name="daain", provenance=facts, refused="it is absent")
    page = certificate_page([refused], "certificate.png")
    assert "`daain`: it is absent." in page
    assert "![" not in page
