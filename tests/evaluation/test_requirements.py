from __future__ import annotations

import pytest

from atd.errors import UserError
from atd.evaluation.protocol import evaluate
from atd.evaluation.requirements import parse_conditions, require_sets, unmet


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
    lines = unmet(parse_conditions(["trusted"]), results)
    assert lines == ([] if "can be trusted" in results.verdict else [f"trusted: {results.verdict}"])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("trustd", "did you mean trusted"),
        ("both.auroc", "like both.auroc>=0.6"),
        ("both.auroc>=much", "much is not a number"),
        ("both.auroc>=nan", "nan is not a number"),
        ("both.aurok>=0.5", "did you mean both.auroc"),
        ("threshold.tpr_atacked>=0.5", "did you mean threshold.tpr_attacked"),
        ("near.boht.auroc>=0.5", "did you mean near.both.auroc"),
    ],
)
def test_a_typo_names_the_nearest(text: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        parse_conditions([text])


def test_a_set_that_is_not_there_is_refused_before_the_work() -> None:
    conditions = parse_conditions(["noize.both.auroc>=0.5"])
    with pytest.raises(UserError, match="did you mean noise.both.auroc"):
        require_sets(conditions, ["noise", "svhn"])
    require_sets(parse_conditions(["noise.both.auroc>=0.5", "both.auroc>0", "trusted"]), ["noise"])
