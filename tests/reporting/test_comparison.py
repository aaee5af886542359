from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from changed import with_results

from atd.errors import UserError
from atd.evaluation.certified import Certificate, CertifiedAuroc
from atd.evaluation.checks import Check
from atd.metrics import CONDITIONS
from atd.reporting.comparison import comparison_table, write_comparison
from atd.reporting.wording import attack_words

TRUSTED = "robustness numbers can be trusted"


@pytest.fixture
def detector(evaluation):
    """Makes an evaluation of a detector with one AUROC for everything."""

    def make(name: str, auroc: float, *, trusted: bool = True, path: str = "runs/x", **attack):
        def change(results) -> None:
            results["detector"] |= {"name": name, "path": path}
            results["attack"] |= attack
            for item in [results["mean"], *results["datasets"].values()]:
                for condition in CONDITIONS:
                    item[condition]["auroc"] = auroc
            for check in results["checks"].values():
                check["passed"] = trusted
            results["verdict"] = TRUSTED if trusted else "suspicious: fgsm_weaker"

        return with_results(evaluation, change)

    return make


@pytest.fixture
def three(detector):
    return [detector("low", 0.5), detector("high", 0.7), detector("fake", 0.9, trusted=False)]


def rows(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(f"| {start}")]


def test_folder_holds_the_named_files(three, tmp_path: Path) -> None:
    file = write_comparison(three, tmp_path / "new")
    assert file == tmp_path / "new" / "comparison.md"
    assert {item.name for item in file.parent.iterdir()} == {
        "comparison.json", "comparison.md", "comparison.html", "epsilon.png",
    }  # fmt: skip


def test_summary_has_what_programs_need(three, tmp_path: Path) -> None:
    write_comparison(three, tmp_path)
    summary = json.loads((tmp_path / "comparison.json").read_text())
    assert summary["schema"] == 1
    assert summary["attack"] == three[0].results.to_json()["attack"]
    for item, evaluation in zip(summary["detectors"], three, strict=True):
        results = evaluation.results.to_json()
        assert (item["name"], item["path"]) == (results["detector"]["name"], "runs/x")
        for key in ("mean", "mean_near", "verdict", "threshold", "curves"):
            assert item[key] == results[key]


def test_best_is_bold_but_not_for_numbers_that_cannot_be_trusted(three, tmp_path: Path) -> None:
    text = write_comparison(three, tmp_path).read_text()
    (fake,), (low,) = rows(text, "fake | **90.0"), rows(text, "low | 50.0")
    assert fake.count("**") == 2
    assert low.count("**") == 0
    (high,) = rows(text, "high | 70.0 | **70.0** | **70.0** | **70.0**")
    assert TRUSTED in high
    assert "SUSPICIOUS" in fake
    (close,) = rows(text, "close")
    assert close == "| close | 50.0 | **70.0** | 90.0 |"


def test_equal_numbers_are_equally_bold(detector, tmp_path: Path) -> None:
    text = write_comparison([detector("a", 0.70001), detector("b", 0.70002)], tmp_path).read_text()
    assert rows(text, "close") == ["| close | **70.0** | **70.0** |"]


def test_every_section_tells_attack_and_verdict_of_each(three, tmp_path: Path) -> None:
    sections = write_comparison(three, tmp_path).read_text().split("\n## ")
    assert len(sections) == 4
    for section in sections:
        assert "PGD-" in section
        assert "low, high: robustness numbers can be trusted" in section
        assert "fake: SUSPICIOUS" in section


def test_attacks_that_differ_are_told_apart(detector, tmp_path: Path) -> None:
    pair = [detector("a", 0.5, members=["pgd-9x1"]), detector("b", 0.6, members=["apgd-8x2"])]
    text = write_comparison(pair, tmp_path).read_text()
    words = [attack_words(evaluation.results.attack) for evaluation in pair]
    assert f"a: {words[0]}; b: {words[1]}" in text
    summary = json.loads((tmp_path / "comparison.json").read_text())
    assert "members" not in summary["attack"]
    assert [item["attack"]["members"] for item in summary["detectors"]] == [
        ["pgd-9x1"],
        ["apgd-8x2"],
    ]


def test_page_is_self_contained(three, tmp_path: Path) -> None:
    write_comparison(three, tmp_path)
    sources: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs) -> None:
            sources.extend(value for key, value in attrs if key in ("src", "href"))

    Reader().feed((tmp_path / "comparison.html").read_text())
    assert sum(source.startswith("data:image/png") for source in sources) == 1
    assert all(source.startswith(("data:", "#")) for source in sources)


def test_terminal_table_has_a_row_per_detector(three) -> None:
    head, columns, *found = comparison_table(three).splitlines()
    assert attack_words(three[0].results.attack) in head
    assert columns.split() == list(CONDITIONS)
    assert [line.split()[0] for line in found] == ["low", "high", "fake"]
    assert found[2].endswith("suspicious: fgsm_weaker")
    assert all(line[len("high") :].startswith("    ") for line in found)


def test_equal_names_are_told_apart_by_path(detector) -> None:
    table = comparison_table([detector("d", 0.5, path="one"), detector("d", 0.6, path="two")])
    assert "d (one)" in table
    assert "d (two)" in table


def test_what_cannot_be_compared_is_refused(detector, evaluation) -> None:
    with pytest.raises(UserError, match="at least one"):
        comparison_table([])
    with pytest.raises(UserError, match="twice"):
        comparison_table([detector("d", 0.5), detector("d", 0.6)])
    with pytest.raises(UserError, match="a and b differ in norm or epsilon"):
        comparison_table([detector("a", 0.5), detector("b", 0.5, epsilon=0.5)])
    other = with_results(
        detector("b", 0.5), lambda results: results["datasets"]["close"].update(images=99)
    )
    with pytest.raises(UserError, match="a and b differ in image sets"):
        comparison_table([detector("a", 0.5), other])


def certified(evaluation, share: float, **checks: Check):
    point = CertifiedAuroc(0.5, 8 / 255, 0.9, 0.8, share, 0.0)
    made = Certificate(
        norm="l2", sigma=0.25, draws=100, confidence=0.999, error=1e-6, images=7, smoothed=0.985,
        mean=[dataclasses.replace(point, radius=0.0, linf=0.0), point], datasets={},
    )  # fmt: skip
    results = dataclasses.replace(evaluation.results, certificate=made)
    results = dataclasses.replace(results, checks={**results.checks, **checks})
    return dataclasses.replace(evaluation, results=results)


def test_certificates_stand_beside_each_other(detector, tmp_path: Path) -> None:
    others = Check(False, 1.0, "it depends on others")
    every = [
        certified(detector("sure", 0.5), 0.7),
        certified(detector("void", 0.5), 0.9, same_score_in_any_batch=others),
        detector("none", 0.5),
    ]
    text = write_comparison(every, tmp_path).read_text()
    section = text.split("## Certified AUROC (%)")[1].split("## ")[0]
    assert "| detector | no attack | 0.5 (8/255) |" in section
    assert rows(section, "sure") == ["| sure | **98.5** | **70.0** |"]
    assert rows(section, "void") == ["| void (void) | 98.5 | 90.0 |"]
    assert rows(section, "none") == []
    assert "sigma 0.25, 100 draws" in section
    assert "sure: certified AUROC" in comparison_table(every)
    summary = json.loads((tmp_path / "comparison.json").read_text())
    kept = [item.get("certificate", {}).get("sigma") for item in summary["detectors"]]
    assert kept == [0.25, 0.25, None]


def test_without_certificates_nothing_is_said_of_them(three, tmp_path: Path) -> None:
    assert "ertified" not in write_comparison(three, tmp_path).read_text()
    assert "ertified" not in comparison_table(three)
