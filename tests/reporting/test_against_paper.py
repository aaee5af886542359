"""Which cells are said to differ from the paper's."""

from __future__ import annotations

from atd.reporting.against_paper import UNEXPLAINED, against_paper


def found(*both: float, clean: float = 0.9) -> dict[str, list[float]]:
    return {"clean": [clean] * len(both), "in": [0.8], "out": [0.7], "both": list(both)}


PAPER = (0.9, 0.8, 0.7, 0.6)


def told(measured, published=None, *, images=60, comparable=False, why=None) -> str:
    published = published or dict.fromkeys(measured, PAPER)
    return against_paper(
        measured,
        published,
        images=images,
        comparable=comparable,
        reference="ours",
        why=why or {},
    )


def test_the_papers_own_images_compare_values_beyond_the_spread_over_seeds():
    text = told({"ours": found(0.5, 0.52), "far": found(0.4, 0.59)}, comparable=True)
    assert f"* ours: both 51.0, the paper 60.0. {UNEXPLAINED}." in text
    assert "* far" not in text, "a seed of it is less than 5 points away"


def test_other_images_compare_on_which_side_of_the_reference_a_method_is():
    published = {"ours": PAPER, "less": (0.9, 0.8, 0.7, 0.3), "more": (0.9, 0.8, 0.7, 0.9)}
    measured = {"ours": found(0.5), "less": found(0.56), "more": found(0.46)}
    text = told(measured, published, why={"less": "It was tuned"})
    assert "* less: both above it (56.0 against 50.0), there below. It was tuned." in text
    assert "* more" not in text, "4 points are within what the images leave open"
    assert "more: both below it (40.0 against 50.0), there above" in told(
        {**measured, "more": found(0.4)}, published
    )


def test_fewer_images_leave_more_open():
    measured, published = {"ours": found(0.5), "less": found(0.56)}, {"ours": PAPER}
    published["less"] = (0.9, 0.8, 0.7, 0.3)
    assert "* less" in told(measured, published, images=60)
    text = told(measured, published, images=30)
    assert "* less" not in text
    assert "more than 7.1 points, which is about what 30 images leave open" in text


def test_nothing_is_said_where_the_paper_says_nothing():
    assert told({"ours": found(0.5), "new": found(0.9)}, {"ours": PAPER}) == ""
    assert told({"new": found(0.9)}, {"new": PAPER}) == ""
    assert told({"ours": found(0.6), "as": found(0.6)}).endswith("none.")
