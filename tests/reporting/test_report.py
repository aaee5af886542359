from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from atd.evaluation.results import Results
from atd.reporting.markdown import render
from atd.reporting.page import page
from atd.reporting.report import summary_table, write_report
from atd.reporting.wording import attack_words, basis, stronger_words

PICTURES = {"scores", "roc", "epsilon", "steps", "threshold", "examples"}
FILES = {"results.json", "scores.npz", "report.html", "report.md"} | {
    f"{name}.png" for name in PICTURES
}


@pytest.fixture(scope="module")
def folder(evaluation, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("run") / "report"
    assert write_report(evaluation, target) == target / "report.md"
    return target


@pytest.fixture
def results(evaluation):
    """Results as JSON, that a test may change."""
    return evaluation.results.to_json()


def suspicious(results):
    for check in results["checks"].values():
        check["passed"] = True
    results["checks"]["fgsm_weaker"]["passed"] = False
    return results | {"verdict": "suspicious: fgsm_weaker"}


def shown(results) -> str:
    return render(page(Results.from_json(results)))


def titled(results) -> dict[str, str]:
    sections = re.split(r"^##? ", shown(results), flags=re.MULTILINE)[1:]
    return {section.splitlines()[0]: section for section in sections}


def test_folder_holds_the_named_files_and_nothing_else(folder: Path) -> None:
    assert {file.name for file in folder.iterdir()} == FILES


def test_results_file_reads_back(folder: Path, evaluation) -> None:
    assert json.loads((folder / "results.json").read_text()) == evaluation.results.to_json()


def test_scores_of_every_image_are_kept(folder: Path, evaluation) -> None:
    with np.load(folder / "scores.npz", allow_pickle=False) as stored:
        assert set(stored) == {
            "id_val/clean", "id_test/clean", "id_test/attacked",
            "bright|wide/clean", "bright|wide/attacked", "close/clean", "close/attacked",
        }  # fmt: skip
        np.testing.assert_array_equal(stored["close/attacked"], evaluation.ood["close"].attacked)
        np.testing.assert_array_equal(stored["id_test/clean"], evaluation.id_test.clean)


def test_pictures_are_png_and_the_page_shows_them_all(folder: Path) -> None:
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (folder / "report.md").read_text())
    assert sorted(shown) == sorted(f"{name}.png" for name in PICTURES)
    for name in shown:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_robust_numbers_never_stand_without_attack_and_verdict(results) -> None:
    results = suspicious(results)
    sections = titled(results)
    words = basis(Results.from_json(results))
    told = {title for title, section in sections.items() if words in section}
    rest = {"Strength of the attack", "The attack", "Checks", "Where this comes from"}
    assert told == set(sections) - rest
    assert sections["Strength of the attack"].count("Verdict: SUSPICIOUS") == 2
    assert attack_words(Results.from_json(results).attack) in sections["The attack"]
    assert "suspicious: fgsm_weaker" in sections["Checks"]


def test_main_table_has_every_auroc_with_its_interval(results) -> None:
    item = results["datasets"]["close"]["both"]
    low, high = item["auroc_ci"]
    table = titled(results)["AUROC (%)"]
    (row,) = [line for line in table.splitlines() if line.startswith("| close")]
    assert row.endswith(f"{100 * item['auroc']:.1f} ({100 * low:.1f}–{100 * high:.1f}) |")


def test_tables_are_rectangular_whatever_the_names(results) -> None:
    # A bar within a name would open a new column.
    for block in re.findall(r"(?:^\|.*\n?)+", shown(results), flags=re.MULTILINE):
        cells = [len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().splitlines()]
        assert len(set(cells)) == 1, block


def test_page_without_baselines_and_near_sets(results) -> None:
    text = shown(results | {"baselines": {}, "mean_near": {}})
    assert "Other scores" not in text
    assert "near sets" not in text
    assert "near sets" in shown(results)


def test_suspicion_comes_before_every_number(results) -> None:
    text = shown(suspicious(results))
    assert "Warning" in text[: text.index("suspicious: fgsm_weaker")]
    assert text.index("suspicious: fgsm_weaker") < text.index(" %**")
    assert "**FAILED** | `fgsm_weaker`" in text


def test_failed_checks_come_first(results) -> None:
    rows = re.findall(r"^\| (passed|\*\*FAILED\*\*) \|", shown(suspicious(results)), re.M)
    assert rows == ["**FAILED**"] + ["passed"] * (len(results["checks"]) - 1)


def test_numbers_behind_a_ladder_of_radii_are_in_pixel_levels(results) -> None:
    results["checks"]["epsilon_monotone"]["value"] = [[0.0, 1.0], [8 / 255, 0.25]]
    text = titled(results)["Checks"]
    assert "0/255: 1.000, 8/255: 0.250" in text


def test_euclidean_attack_is_told_as_such(results) -> None:
    results["attack"] |= {"norm": "l2", "epsilon": 0.5}
    text = shown(results)
    assert "up to 0.5 in Euclidean length" in text
    assert "L2, epsilon 0.5" in text
    assert "L-inf" not in text


def test_shares_of_the_members_are_told(results) -> None:
    shares = {"unchanged image": 0.25, "pgd-100x5": 0.5, "square-1000x1": 0.25}
    text = titled(results | {"strongest": shares})["The attack"]
    assert "| PGD-100 x 5 | 50.0 % |" in text
    assert "| Square-1000 x 1 | 25.0 % |" in text


def test_the_command_that_was_given_is_told_and_none_is_made_up(results) -> None:
    words = "python evaluate.py 'my runs/d' --config a.yaml evaluate.limit=80"
    facts = results["provenance"]
    told = results | {"provenance": facts | {"command": words}}
    assert words in titled(told)["Where this comes from"]
    del facts["command"]  # as older reports, and those from Python, lack it
    assert "evaluate.py" not in titled(results)["Where this comes from"]


def test_summary_shows_every_set_and_aligns(evaluation) -> None:
    lines = summary_table(evaluation.results).splitlines()
    assert attack_words(evaluation.results.attack) in lines[0]
    assert lines[-1] == evaluation.results.verdict
    assert lines[-2] == stronger_words(evaluation.results)
    table = lines[1:-2]
    assert len({len(line) for line in table}) == 1
    auroc = evaluation.results.datasets["close"].both["auroc"]
    (row,) = [line for line in table if line.startswith("close")]
    assert row.endswith(f"{100 * auroc:.1f}")


def test_a_failing_write_leaves_the_old_file(evaluation, folder: Path) -> None:
    before = (folder / "results.json").read_bytes()
    nothing = dataclasses.replace(evaluation.results.threshold, value=float("nan"))
    results = dataclasses.replace(evaluation.results, threshold=nothing)
    broken = dataclasses.replace(evaluation, results=results)
    with pytest.raises(ValueError, match="JSON"):
        write_report(broken, folder)
    assert (folder / "results.json").read_bytes() == before
    assert {file.name for file in folder.iterdir()} == FILES
