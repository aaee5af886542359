"""The pages of detectors, from made rows; the published ones are made of the published rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from atd.evaluation.checks import TRUSTED
from atd.evaluation.results import AttackFacts, Provenance
from atd.experiments.variants import DEFAULTS
from atd.metrics import CONDITIONS, METRICS
from atd.records import from_json, to_json
from atd.reporting import detectors_page as pages
from atd.reporting.kind_rows import KindRow

ATTACK = AttackFacts("paper", "linf", 8 / 255, 100, 1, ("pgd-100x1",))
DOCS = Path(__file__).parents[2] / "docs"
FACTS = Provenance("abc", {"torch": "2"}, "CPU (2 cores)", 0, "d" * 64, 9.0, "2026-01-02T00:00:00")


def row(kind, both=0.5, **values):
    mean = {
        condition: dict.fromkeys(METRICS, auroc)
        for condition, auroc in zip(CONDITIONS, (0.9, 0.8, 0.7, both), strict=True)
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
    }
    return KindRow(**{**given, **values})


def detectors_page(rows):
    return pages.detectors_page(rows, DEFAULTS["detectors"])


def line(page, name):
    """The measured row of a name, cell by cell."""
    table = page.split("\n| row | ")[-1]
    found = [text for text in table.splitlines() if text.startswith(f"| `{name}` ")]
    return [cell.strip() for cell in found[0].strip("|").split("|")]


def test_a_row_of_one_seed():
    page = detectors_page({"x/msp/0": row("msp")})
    assert line(page, "msp") == ["`msp`", "1", "90.0", "80.0", "70.0", "50.0", "trusted"]
    assert (
        "Attack (steps x starts): tier paper, PGD-100 x 1, L-inf, epsilon 8/255 (0.0314). " in page
    )
    assert "mean over the far sets (photo, noise) and seeds, 60 ID images" in page
    assert (
        "    python -m atd.reproduce detectors --scale small --config configs/digits.yaml" in page
    )
    assert "* 1 run: commit abc, CPU (2 cores), 2026-01-02" in page
    assert "No number of the papers is quoted" in page


def test_seeds_give_a_spread_images_an_interval_and_seeds_share_their_suspicions():
    bounds = dict.fromkeys(CONDITIONS, (0.3, 0.6))
    rows = {
        f"x/msp/{seed}": row("msp", both, intervals=bounds)
        for seed, both in enumerate((0.4, 0.5, 0.9))
    }
    suspicious = "suspicious: gradients_true, more_steps"
    rows["x/msp/1"] = replace(
        rows["x/msp/1"], verdict=suspicious, intervals=dict.fromkeys(CONDITIONS, (0.6, 0.9))
    )
    cells = line(detectors_page(rows), "msp")
    assert cells[1] == "3"
    assert cells[5] == "60.0 [40.0, 70.0]<br>40.0 to 90.0"
    assert cells[6] == "**suspicious** (1 of 3 seeds): gradients_true, more_steps"


def test_what_is_left_with_most_is_named():
    rows = {
        f"x/{kind}/0": row(kind, both)
        for kind, both in (("msp", 0.1), ("atd", 0.8), ("knn", 0.3), ("vim", 0.5))
    }
    told = "Highest with both sides attacked: `atd` 80.0, `vim` 50.0, `knn` 30.0."
    assert told in detectors_page(rows)


def test_a_refusal_is_told_in_its_row():
    nothing = {"mean": None, "attack": None, "verdict": ""}
    page = detectors_page({"x/vim/0": row("vim", refused="too few | images", **nothing)})
    assert line(page, "vim") == ["`vim`", "0", "", "", "", "", "refused: too few / images"]
    assert "Attack (steps x starts): none." in page


def test_settings_have_tables_of_their_own_in_the_order_of_rows():
    share = {"variant": "gaia_z:share", "note": "ours", "options": ("detector.statistic=share",)}
    rows = {
        "d/knn/0": row("knn", options=("detector.k=3",)),
        "c/knn/0": row("knn", config="configs/mine.yaml", overrides=("evaluate.limit=9",)),
        "d/share/0": row("gaia_z", **share),
        "d/atd/0": row("atd", attack=replace(ATTACK, draws=20)),
    }
    first, second = detectors_page(rows).split("\n## ")[1:3]
    assert first.startswith("configs/digits.yaml, scale small")
    places = [first.index(name) for name in ("| `atd` |", "| `gaia_z:share` ours |", "| `knn` |")]
    assert places == sorted(places)
    assert "`gaia_z:share`: `detector.statistic=share`; `knn`: `detector.k=3`." in first
    assert "--config configs/mine.yaml evaluate.limit=9\n" in second
    assert "| `atd` |" not in second


def test_backbones_of_other_trainings_are_told_apart():
    rows = {
        name: row("msp", variant=name, training=training, backbone=f"a net, objective={at}, tiny")
        for name, training, at in (
            *(("msp@oe", "oe", "oe"), ("msp@aoe", "aoe", "aoe")),
            ("msp@vit_standard", "vit_standard", "standard"),
        )
    }
    page = pages.objectives_page(rows, DEFAULTS["objectives"])
    same = "oe, aoe: a net, objective=TRAINING, tiny"
    assert f"Backbone: {same}; vit_standard: a net, objective=standard, tiny. " in page
    assert line(page, "msp@oe")[1] == "1"
    assert "python -m atd.reproduce objectives --scale small" in page


def test_rows_that_no_table_has_are_named():
    nothing = {"refused": "too few images", "mean": None, "attack": None}
    page = pages.detectors_page(
        {"x/a/0": row("msp"), "x/b/0": row("vim", **nothing)}, ["vim", "msp"]
    )
    assert "Not measured" not in page
    page = pages.detectors_page({"x/a/0": row("msp")}, ["vim", "msp", "gaia_z:share"])
    assert "\n\n**Not measured yet**: vim; gaia_z:share.\n\n" in page


@pytest.mark.parametrize("values", [{}, {"mean": None, "attack": None}])
def test_a_row_survives_json(values):
    made = row("msp", **values)
    assert from_json(KindRow, to_json(made)) == made


@pytest.mark.parametrize("what", ["detectors", "objectives"])
def test_the_published_page_is_made_of_the_published_rows(what):
    runs = json.loads((DOCS / f"{what}.json").read_text(encoding="utf-8"))
    rows = {key: from_json(KindRow, run, key) for key, run in runs.items()}
    make = getattr(pages, f"{what}_page")
    assert make(rows, DEFAULTS[what]) == (DOCS / f"{what}.md").read_text(encoding="utf-8")
