from __future__ import annotations

import pytest
from changed import with_results

from atd.evaluation.results import AttackFacts
from atd.records import from_json, to_json
from atd.reporting.wording import attack_words, curve_words, grouped, member_words, verdict_words


def attack(**changes):
    values = {
        "norm": "linf", "epsilon": 8 / 255, "steps": 100, "restarts": 1, "members": ["pgd-100x1"],
        "tier": "paper",
    } | changes  # fmt: skip
    return from_json(AttackFacts, values)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "PGD-100 x 1, L-inf, epsilon 8/255 (0.0314)"),
        ({"members": ["pgd"]}, "PGD-100 x 1, L-inf, epsilon 8/255 (0.0314)"),
        ({"members": ["pgd"], "restarts": 5}, "PGD-100 x 5, L-inf, epsilon 8/255 (0.0314)"),
        (
            {"members": ["pgd-100x5", "momentum-100x1", "square-1000x1"], "norm": "l2",
             "epsilon": 0.5},
            "PGD-100 x 5 + momentum-PGD-100 x 1 + Square-1000 x 1, L2, epsilon 0.5",
        ),
    ],
)  # fmt: skip
def test_attack_is_named_with_steps_restarts_norm_and_radius(changes, words: str) -> None:
    assert attack_words(attack(**changes)) == words


@pytest.mark.parametrize(
    "kind",
    ["pgd", "momentum", "apgd", "features", "square", "transfer", "fgsm", "noise", "new-one"],
)
def test_every_member_keeps_its_numbers(kind: str) -> None:
    assert member_words(f"{kind}-7x3").endswith("-7 x 3")


def test_what_is_no_attack_is_left_alone() -> None:
    assert member_words("unchanged image") == "unchanged image"


def test_verdict_counts_the_checks(evaluation) -> None:
    count = len(evaluation.results.checks)

    def passing(results) -> None:
        for check in results["checks"].values():
            check["passed"] = True
        results["verdict"] = "robustness numbers can be trusted"

    def failing(results) -> None:
        results["checks"]["fgsm_weaker"]["passed"] = False
        results["verdict"] = "suspicious: fgsm_weaker"

    honest = with_results(evaluation, passing)
    words = verdict_words(honest.results)
    assert words == f"robustness numbers can be trusted ({count} checks passed)"
    words = verdict_words(with_results(honest, failing).results)
    assert words == f"SUSPICIOUS (1 of {count} checks failed)"


def test_curves_are_said_to_be_of_a_varied_attack_on_some_images(evaluation) -> None:
    curves = {
        "attack": "pgd-50x1",
        "images": {"id": 64, "ood": 65},
        "epsilon": [{"epsilon": value / 255} for value in (0, 4, 16)],
        "steps": [{"steps": value} for value in (0, 5, 50)],
    }
    changes = {"curves": curves, "attack": to_json(attack())}
    results = with_results(evaluation, lambda results: results.update(changes)).results
    where = "on 64 ID and 65 OOD images"
    assert curve_words(results, "epsilon") == (
        f"PGD-50 x 1, L-inf, epsilon up to 16/255 (0.0627), {where}"
    )
    assert curve_words(results, "steps") == (
        f"PGD with 0 to 50 steps x 1, L-inf, epsilon 8/255 (0.0314), {where}"
    )


def test_what_all_agree_on_is_said_once() -> None:
    assert grouped({"a": "same", "b": "same"}) == "same"
    assert grouped({"a": "one", "b": "two", "c": "one"}) == "a, c: one; b: two"
