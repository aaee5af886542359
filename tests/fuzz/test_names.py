"""A whole report, pictures included, whose names are hostile."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from atd.evaluation.results import Results
from atd.reporting.report import write_report
from tests.fuzz.names import HOSTILE, honest, honest_evaluation, renamed, require_text_only


@pytest.mark.parametrize("word", HOSTILE)
def test_a_hostile_name_changes_the_text_of_a_page_alone(word, tmp_path) -> None:
    require_text_only(renamed(lambda _: word), tmp_path)


def test_the_check_sees_a_name_that_becomes_markup(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("atd.reporting.html.escape", lambda text: text)
    with pytest.raises(AssertionError, match="HTML has other tags"):
        require_text_only(renamed(lambda _: "<script>alert(1)</script>"), tmp_path)


def test_a_report_with_pictures_takes_hostile_names(tmp_path) -> None:
    words = itertools.cycle(
        ["{0} $x$ \\frac{", "<b>\x07\udcff line\nbreak", "_", "写真 \U0001f600", *HOSTILE]
    )
    values = renamed(lambda _: next(words))
    plain = honest_evaluation()
    names = dict(zip(honest()["datasets"], values["datasets"], strict=True))
    evaluation = dataclasses.replace(
        plain,
        results=Results.from_json(values),
        ood={names[name]: scored for name, scored in plain.ood.items()},
    )
    page = write_report(evaluation, tmp_path / "report").with_name("report.html").read_text()
    assert "<b>" not in page
    assert (tmp_path / "report" / "results.json").read_text().isascii()
