from __future__ import annotations

import dataclasses

import pytest

from atd.errors import UserError
from atd.evaluation.certified import Certificate, CertifiedAuroc
from atd.evaluation.checks import TRUSTED, Check
from atd.evaluation.protocol import evaluate
from atd.evaluation.requirements import parse_conditions, require_certified, require_sets, unmet
from atd.evaluation.smoothing import Smoothing


@pytest.fixture
def results(brightness, splits, settings):
    return evaluate(brightness, splits, settings, name="toy").results


def test_conditions_are_compared_with_what_was_found(results) -> None:
    both, near = results.mean["both"]["auroc"], results.datasets["close"].both["auroc"]
    met = [f"both.auroc>={both - 0.01}", f"near.both.auroc<= {near + 0.01}", "close.in.fpr95_id<2"]
    met += ["threshold.tpr_clean>0.5", "clean.detection_error <1"]
    assert unmet(parse_conditions(met), results) == []
    short = parse_conditions([f"both.auroc>={both + 0.01:.4f}", "threshold.tpr_clean>1"])
    first, second = unmet(short, results)
    assert first == f"both.auroc>={both + 0.01:.4f}: it is {both:.4f}"
    assert second.startswith("threshold.tpr_clean>1: it is ")


def test_trusted_tells_the_verdict(results) -> None:
    trusted = parse_conditions(["trusted"])
    assert unmet(trusted, dataclasses.replace(results, verdict=TRUSTED)) == []
    doubtful = dataclasses.replace(results, verdict="suspicious: fgsm_weaker")
    assert unmet(trusted, doubtful) == ["trusted: suspicious: fgsm_weaker"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("trustd", "did you mean trusted"),
        ("both.auroc", "like both.auroc>=0.6"),
        ("both.auroc>=much", "much is not a number"),
        ("both.auroc>=nan", "nan is not a number"),
        ("both.aurok>=0.5", "did you mean both.auroc"),
        ("both.auroc>=60", "shares lie between 0 and 1; 60 % is 0.6"),
        ("threshold.tpr_atacked>=0.5", "did you mean threshold.tpr_attacked"),
        ("certifed@0.25>=0.5", "did you mean certified@0.25"),
        ("certified@much>=0.5", "much is not a number"),
        ("near.boht.auroc>=0.5", "did you mean near.both.auroc"),
    ],
)
def test_a_typo_names_the_nearest(text: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        parse_conditions([text])


def test_a_set_that_is_not_there_is_refused_before_the_work() -> None:
    conditions = parse_conditions(["noize.both.auroc>=0.5"])
    with pytest.raises(UserError, match="did you mean noise.both.auroc"):
        require_sets(conditions, ["noise", "svhn"], near=True)
    met = parse_conditions(["noise.both.auroc>=0.5", "both.auroc>0", "trusted"])
    require_sets(met, ["noise"], near=False)
    near = parse_conditions(["near.both.auroc>=0.5"])
    require_sets(near, ["noise"], near=True)
    with pytest.raises(UserError, match=r"near\.both\.auroc"):
        require_sets(near, ["noise"], near=False)


@pytest.fixture
def certified(results):
    """Results that are certain up to radius 0.5: 97 and 71 % with both sides attacked."""
    points = [
        CertifiedAuroc(0.0, 0.0, 0.99, 0.98, 0.97, 0.0),
        CertifiedAuroc(0.5, 8 / 255, 0.9, 0.8, 0.71, 0.25),
    ]
    certificate = Certificate(
        norm="l2", sigma=0.25, draws=100, confidence=0.999, error=1e-6, images=7, smoothed=0.985,
        mean=points, datasets={},
    )  # fmt: skip
    return dataclasses.replace(results, certificate=certificate, checks={})


def test_what_is_certified_can_be_required(certified) -> None:
    met = ["certified@0.5>=0.7", "certified@0.50<0.72", "certified@0 > 0.96"]
    assert unmet(parse_conditions(met), certified) == []
    lines = unmet(parse_conditions(["certified@0.5>=0.9"]), certified)
    assert lines == ["certified@0.5>=0.9: it is 0.7100"]


def test_a_void_certificate_meets_nothing(certified) -> None:
    checks = {"same_score_in_any_batch": Check(False, 1.0, "it depends")}
    void = dataclasses.replace(certified, checks=checks)
    (line,) = unmet(parse_conditions(["certified@0.5>=0.1"]), void)
    assert line.startswith("certified@0.5>=0.1: void")


def test_what_will_not_be_certified_is_refused_before_the_work(results) -> None:
    conditions = parse_conditions(["trusted", "certified@0.250>=0.9"])
    with pytest.raises(UserError, match="add evaluate.certify=true"):
        require_certified(conditions, None)
    with pytest.raises(UserError, match=r"no such radius \(certified: 0, 0.3\)"):
        require_certified(conditions, Smoothing(radii=(0.3,)))
    require_certified(conditions, Smoothing(radii=(0.1, 0.25)))
    require_certified(parse_conditions(["trusted"]), None)
    with pytest.raises(UserError, match="certified@0.25 is unknown"):
        unmet(conditions, results)
