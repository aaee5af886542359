"""Every attack of the suite says what it is; what it does is tested with `worst`."""

from __future__ import annotations

import pytest

from atd.attacks.suite import KINDS, Means, kind_of, member, parse
from atd.evaluation.tiers import weaker_than_standard


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_the_name_of_its_file_and_reads_back(kind: str) -> None:
    assert kind_of(kind).kind == kind
    assert kind_of(kind).title
    assert parse(str(member(kind, 7, 3))) == member(kind, 7, 3)


@pytest.mark.parametrize("text", ["base-1x1", "nothing-3x1", "pgd", "../pgd-1x1", "pgd-x1"])
def test_what_names_no_attack_is_refused(text: str) -> None:
    with pytest.raises(KeyError):
        parse(text)


@pytest.mark.parametrize(
    ("kind", "with_all", "without"),
    [("features", 2, "no features"), ("transfer", 3, "no other detector"), ("pgd", 2, "")],
)
def test_what_an_attack_lacks_is_said(kind: str, with_all: int, without: str) -> None:
    attack = member(kind, 5, 2)
    everything = Means("linf", features=True, sources=3)
    assert (attack.lacks(everything), attack.runs(everything)) == ("", with_all)
    assert without in attack.lacks(Means("linf"))


def test_square_is_for_linf_only() -> None:
    assert "L-inf" in member("square", 9).lacks(Means("l2"))


@pytest.mark.parametrize(
    ("members", "weaker"),
    [
        (("pgd-100x1",), True),
        (("pgd-100x1", "apgd-100x3"), False),
        (("pgd-100x1", "apgd-100x5", "square-9x1"), False),
        (("pgd-50x1", "apgd-100x3"), True),
        (("pgd", "apgd-100x1"), True),
    ],
)
def test_an_attack_weaker_than_standard_is_known(members: tuple[str, ...], weaker: bool) -> None:
    assert weaker_than_standard(members) is weaker
