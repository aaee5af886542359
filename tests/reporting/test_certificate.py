"""What a report says of a certificate."""

from __future__ import annotations

import dataclasses

import pytest

from atd.detectors.config import DetectorConfig
from atd.evaluation.certified import Attempt, Certificate, CertifiedAuroc
from atd.evaluation.checks import Check
from atd.reporting import markdown
from atd.reporting.card import model_card
from atd.reporting.certificate import certificate_section, certified_words
from atd.reporting.page import page
from atd.reporting.report import summary_table

POINTS = [
    CertifiedAuroc(0.0, 0.0, 0.99, 0.98, 0.97, 0.0),
    CertifiedAuroc(0.5, 8 / 255, 0.9, 0.8, 0.71234, 0.25),
]


@pytest.fixture
def results(evaluation):
    certificate = Certificate(
        norm="l2", sigma=0.25, draws=1000, confidence=0.999, error=1e-6, images=70, smoothed=0.985,
        mean=POINTS, datasets={"close": POINTS}, attack="PGD-10 on copies", attacked=64,
        attempts=[Attempt(0.5, 0.86, 0.73)],
    )  # fmt: skip
    return dataclasses.replace(evaluation.results, certificate=certificate)


def test_the_section_tells_both_balls_and_what_is_claimed(results):
    text = markdown.render(certificate_section(results))
    assert "| 0.5 | 8/255 | 90.0 | 80.0 | **71.2** | 86.0 (73.0) | 25.0 |" in text
    assert "at least 99.9 %" in text
    assert "All 140 bounds" in text
    assert "Warning" not in text
    assert any("no attack can take away" in section.title for section in page(results))


def test_a_score_that_depends_on_other_images_has_no_certificate(results):
    checks = {**results.checks, "same_score_in_any_batch": Check(False, 1.0, "it does")}
    void = dataclasses.replace(results, checks=checks)
    assert "The certificate is void" in markdown.render(certificate_section(void))
    assert "Void: " in certified_words(void)


def test_the_terminal_shows_what_is_certified(results, evaluation):
    assert "certified AUROC in L2, both sides attacked" in summary_table(results)
    assert "71.2 % at 0.5" in summary_table(results)
    assert "certified" not in summary_table(evaluation.results)
    assert certificate_section(evaluation.results) == []


def test_the_model_card_has_it(results, evaluation):
    config = DetectorConfig(
        kind="msp", image_size=8, channels=1, options={}, backbone=None, classes=[]
    )
    assert "## Certificate\n\nCertified AUROC in L2" in model_card(results, config)
    assert "## Certificate" not in model_card(evaluation.results, config)
