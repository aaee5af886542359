"""The page of all kinds, from made rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atd.evaluation.checks import TRUSTED
from atd.evaluation.results import AttackFacts, Provenance
from atd.metrics import METRICS
from atd.records import from_json, to_json
from atd.reporting.detectors_page import KindRow, Speed, detectors_page

ATTACK = AttackFacts("paper", "linf", 8 / 255, 100, 1, ("pgd-100x1",))
FACTS = Provenance("abc", {"torch": "2"}, "CPU (2 cores)", 0, "d" * 64, 9.0, "2026-01-02T00:00:00")


def row(kind, both=0.5, **values):
    mean = {
        condition: dict.fromkeys(METRICS, auroc)
        for condition, auroc in zip(
            ("clean", "in", "out", "both"), (0.9, 0.8, 0.7, both), strict=True
        )
    }
    given = {
        "config": "configs/digits.yaml",
        "scale": "small",
        "overrides": (),
        "kind": kind,
        "options": (),
        "backbone": "preact_resnet18, width 16",
        "provenance": FACTS,
        "mean": mean,
        "mean_over": ("photo", "noise"),
        "images": 60,
        "attack": ATTACK,
        "verdict": TRUSTED,
        "speed": Speed(1234.5, 5000.0),
    }
    return KindRow(**{**given, **values})


def line(page, kind):
    """The measured row of a kind, cell by cell."""
    found = [text for text in page.splitlines() if text.startswith(f"| `{kind}` | ")]
    return [cell.strip() for cell in found[-1].strip("|").split("|")]


def test_a_row_of_one_seed():
    page = detectors_page({"x/msp/0": row("msp")})
    cells = ["`msp`", "1", "90.0", "80.0", "70.0", "50.0", "trusted", "1,234", "5,000"]
    assert line(page, "msp") == cells
    assert "Attack: PGD-100 x 1, L-inf, epsilon 8/255 (0.0314). " in page
    assert "over the far sets (photo, noise), 60 ID images" in page
    assert (
        "    python -m atd.reproduce detectors --scale small --config configs/digits.yaml" in page
    )
    assert "* 1 run: commit abc, CPU (2 cores), 2026-01-02" in page
    assert "No number of the papers is quoted" in page


def test_seeds_give_an_interval_and_share_their_suspicions():
    rows = {f"x/msp/{seed}": row("msp", both) for seed, both in enumerate((0.4, 0.5, 0.9))}
    suspicious = "suspicious: gradients_true, more_steps"
    rows["x/msp/1"] = replace(rows["x/msp/1"], verdict=suspicious, speed=Speed(10.0, 20.0))
    cells = line(detectors_page(rows), "msp")
    assert cells[1] == "3"
    assert cells[2] == "90.0 [90.0, 90.0]"
    assert cells[5] == "60.0 [40.0, 90.0]"
    assert cells[6] == "**suspicious** (1 of 3 seeds): gradients_true, more_steps"
    assert cells[7] == "1,234"  # the median


def test_a_refusal_is_told_in_its_row():
    nothing = {"mean": None, "attack": None, "speed": None, "verdict": ""}
    page = detectors_page({"x/vim/0": row("vim", refused="too few | images", **nothing)})
    assert line(page, "vim") == ["`vim`", "0", "", "", "", "", "refused: too few / images", "", ""]
    assert "Attack: none." in page


def test_settings_have_tables_of_their_own_in_the_order_of_kinds():
    rows = {
        "d/knn/0": row("knn", options=("detector.k=3",)),
        "c/knn/0": row("knn", config="configs/mine.yaml", overrides=("evaluate.limit=9",)),
        "d/atd/0": row("atd", backbone="another", attack=replace(ATTACK, draws=20)),
    }
    page = detectors_page(rows)
    first, second = page.split("\n## ")[2:4]
    assert first.startswith("configs/digits.yaml, scale small")
    assert first.index("| `atd` |") < first.index("| `knn` |")
    assert "knn: preact_resnet18" in first.replace("\\_", "_")
    assert "Options that are no defaults: `knn`: `detector.k=3`." in first
    assert "--config configs/mine.yaml evaluate.limit=9\n" in second
    assert "| `atd` |" not in second


@pytest.mark.parametrize("values", [{}, {"mean": None, "attack": None, "speed": None}])
def test_a_row_survives_json(values):
    made = row("msp", **values)
    assert from_json(KindRow, to_json(made)) == made
