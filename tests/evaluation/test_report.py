from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest

from atd.evaluation.report import page, summary_table, write_report

FILES = {"results.json", "scores.npz", "report.md", "scores.png", "roc.png", "examples.png"}


@pytest.fixture(scope="module")
def folder(evaluation, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("run") / "report"
    assert write_report(evaluation, target) == target / "report.md"
    return target


def test_folder_holds_the_named_files_and_nothing_else(folder: Path) -> None:
    assert {file.name for file in folder.iterdir()} == FILES


def test_results_file_reads_back(folder: Path, evaluation) -> None:
    assert json.loads((folder / "results.json").read_text()) == evaluation.results


def test_scores_of_every_image_are_kept(folder: Path, evaluation) -> None:
    with np.load(folder / "scores.npz", allow_pickle=False) as stored:
        assert set(stored) == {
            "id_val/clean", "id_test/clean", "id_test/attacked",
            "bright|wide/clean", "bright|wide/attacked", "close/clean", "close/attacked",
        }  # fmt: skip
        np.testing.assert_array_equal(stored["close/attacked"], evaluation.ood["close"].attacked)
        np.testing.assert_array_equal(stored["id_test/clean"], evaluation.id_test.clean)


def test_pictures_are_png_and_the_page_shows_them(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    for name in re.findall(r"\]\(([^)]+)\)", text):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert text.count("](") == 3


def test_every_section_with_robust_numbers_names_the_attack(evaluation) -> None:
    sections = re.split(r"\n## ", page(evaluation.results))
    titled = {section.splitlines()[0]: section for section in sections}
    for title in ("AUROC (%)", "At the threshold", "Pictures", "Every metric (%)"):
        assert "PGD-4, 2 restarts, L-inf, epsilon 8/255 (0.0314)" in titled[title]
    assert "PGD-4, 2 restarts" in titled["Other scores of the same backbone"]
    assert "up to 8/255" in sections[0]


def test_tables_are_rectangular_whatever_the_names(evaluation) -> None:
    # A bar within a name would open a new column.
    for block in re.findall(r"(?:^\|.*\n?)+", page(evaluation.results), flags=re.MULTILINE):
        cells = [len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().splitlines()]
        assert len(set(cells)) == 1, block


def test_page_without_baselines_and_near_sets(evaluation) -> None:
    results = copy.deepcopy(evaluation.results) | {"baselines": {}, "mean_near": {}}
    text = page(results)
    assert "Other scores" not in text
    assert "near sets" not in text


def test_suspicion_is_said_first(evaluation) -> None:
    results = copy.deepcopy(evaluation.results)
    results["checks"]["fgsm_weaker"]["passed"] = False
    results["verdict"] = "suspicious: fgsm_weaker"
    text = page(results)
    assert text.index("suspicious: fgsm_weaker") < text.index("## AUROC")
    assert "**FAILED** | fgsm_weaker" in text


def test_summary_shows_every_set_and_aligns(evaluation) -> None:
    lines = summary_table(evaluation.results).splitlines()
    assert "PGD-4, 2 restarts, L-inf, epsilon 8/255" in lines[0]
    assert lines[-1] == evaluation.results["verdict"]
    table = lines[1:-1]
    assert len({len(line) for line in table}) == 1
    auroc = evaluation.results["datasets"]["close"]["both"]["auroc"]
    (row,) = [line for line in table if line.startswith("close")]
    assert row.endswith(f"{100 * auroc:.1f}")


def test_a_failing_write_leaves_the_old_file(evaluation, tmp_path: Path) -> None:
    write_report(evaluation, tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    broken = copy.copy(evaluation)
    object.__setattr__(broken, "results", evaluation.results | {"schema": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        write_report(broken, tmp_path)
    assert (tmp_path / "results.json").read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == FILES
