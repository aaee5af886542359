"""What the page of findings says of given rows."""

from __future__ import annotations

import dataclasses

from PIL import Image

from atd.evaluation.checks import TRUSTED
from atd.evaluation.results import Provenance
from atd.reporting.findings_figures import draw_findings
from atd.reporting.findings_page import FindingRow, findings_page

CONDITIONS = ("clean", "in", "out", "both")


def row(recipe: str, *, both: tuple[float, float, float], seed: int = 0) -> FindingRow:
    attacks = {
        name: {**dict.fromkeys(CONDITIONS, 0.9), "both": value}
        for name, value in zip(("released", "paper", "strong"), both, strict=True)
    }
    shares = {"float32": 0.25, "bfloat16": 0.5}
    return FindingRow(
        config="configs/digits.yaml",
        scale="small",
        overrides=(),
        recipe=recipe,
        options=("recipe=published",),
        attacks=attacks,
        paper_attack="PGD-100 x 1",
        strong_members=("pgd-100x1", "apgd-100x5"),
        verdict=TRUSTED,
        images=60,
        mean_over=("photo", "noise"),
        zero_gradient={"loss": 0.125, "logit": 0.0},
        flat_loss=shares,
        saturated=shares,
        largest_logit=21.5,
        edges=(-40.0, 0.0, 40.0),
        histogram={"id": (1.0, 0.0), "ood": (0.25, 0.75)},
        provenance=Provenance("abc", {}, "CPU", seed, None, 1.0, "2026-01-01"),
    )


ROWS = [
    row("released", both=(0.8, 0.7, 0.6)),
    row("released", both=(0.6, 0.5, 0.4), seed=1),
    row("ours", both=(0.9, 0.9, 0.88)),
]


def test_seeds_are_put_together_and_the_attacks_compared():
    text = findings_page(ROWS, ["a_auroc.png"], ("released", "ours"))
    assert "leaves 70.0 %, PGD on the raw logit 60.0 %, the strong tier 50.0 %: 20.0 points" in text
    assert "| released | `recipe=published` | 2 | 90.0 [90.0, 90.0] |" in text
    assert "| 50.0 [40.0, 60.0] | trusted |" in text
    assert "| ours | 12.5 | 0.0 | 25.0 | 50.0 | 25.0 | 50.0 | 21.5 |" in text
    assert "](a_auroc.png)" in text
    assert "* 3 runs: commit abc, CPU, 2026-01-01" in text
    assert "Not measured yet" not in text


def test_a_recipe_that_lacks_is_named():
    text = findings_page(ROWS[:1], [], ("released", "ours"))
    assert text.count("**Not measured yet**: ours.") == 1


def test_other_settings_have_tables_of_their_own():
    other = dataclasses.replace(ROWS[0], scale="paper")
    text = findings_page([*ROWS, other], [])
    assert text.count("\n## configs/digits.yaml, scale ") == 2


def test_pictures_show_every_setting(tmp_path):
    other = [dataclasses.replace(ROWS[0], scale="paper")]
    heights = []
    for rows in (ROWS, [*ROWS, *other]):
        names = draw_findings(rows, tmp_path / "page.md")
        heights.append([Image.open(tmp_path / name).height for name in names])
    assert all(two > 1.5 * one for one, two in zip(*heights, strict=True))


def test_pictures_lie_beside_the_page(tmp_path):
    names = draw_findings(ROWS, tmp_path / "page.md")
    assert names == ["page_auroc.png", "page_logits.png"]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)
