"""Re-attacked files: on a score whose worst case is known, and one that no gradient leads to."""

from __future__ import annotations

import pytest
import torch

from atd.detectors.formats.reattack import Sides, judged, recorded_levels


def brightness(images):
    return images.float().mean((1, 2, 3)) / 255


def slope(images):
    return images.mean((1, 2, 3))


def sides(inside, outside):
    shape = (6, 1, 4, 4)
    return Sides(*(torch.full(shape, grey, dtype=torch.uint8) for grey in (inside, outside)))


@pytest.mark.parametrize("gradient", [slope, None], ids=["gradient", "queries alone"])
@pytest.mark.parametrize(("outside", "attacked"), [(117, 1.0), (115, 0.0)])
def test_both_sides_move_by_epsilon(outside, attacked, gradient):
    """Brightness moves by 8 of 255 on each side, so a gap of 17 holds and one of 15 does not."""
    found = judged(brightness, gradient, sides(100, outside), 8, None, "toy")
    assert found["clean"]["auroc"] == 1.0
    if outside == 117 or gradient is not None:
        assert found["both"]["auroc"] == attacked
    else:
        assert found["both"]["auroc"] < 1.0
    low, high = found["both"]["auroc_ci"]
    assert low <= found["both"]["auroc"] <= high


@pytest.mark.parametrize(
    ("threshold", "clean", "both"),
    [(100 / 255, (1, 0), (0, 0)), (99 / 255, (0, 0), (0, 0)), (112 / 255, (1, 0), (1, 1))],
)
def test_shares_at_the_threshold_are_told_clean_and_attacked(threshold, clean, both):
    found = judged(brightness, slope, sides(100, 117), 8, threshold, "toy")
    shares = {name: (row["id_called_id"], row["ood_called_id"]) for name, row in found.items()}
    assert shares == {"clean": clean, "both": both}


def test_without_a_threshold_there_are_no_shares():
    found = judged(brightness, None, sides(100, 117), 8, None, "toy")
    assert set(found["clean"]) == {"auroc", "auroc_ci"}


def test_what_counts_is_the_files_own_score_not_that_of_the_gradient():
    found = judged(lambda images: torch.zeros(len(images)), slope, sides(100, 101), 8, None, "toy")
    assert found["clean"]["auroc"] == found["both"]["auroc"] == 0.5


def test_only_whole_grey_levels_are_shown_to_a_file():
    seen = []

    def run(images):
        seen.append(images)
        return brightness(images)

    judged(run, slope, sides(3, 250), 8, None, "toy")
    assert all(images.dtype == torch.uint8 for images in seen)
    assert max(int(images[images < 128].max()) for images in seen if (images < 128).any()) == 11


@pytest.mark.parametrize(
    ("record", "levels"),
    [
        ({}, 8),
        ({"atd": {"epsilon": 0.15}}, 38),
        ({"atd": {"epsilon": 4 / 255}, "evaluate": {"epsilon": -1.0, "norm": "linf"}}, 4),
        ({"atd": {"epsilon": 4 / 255}, "evaluate": {"epsilon": 2 / 255}}, 2),
        ({"atd": {"epsilon": 4 / 255}, "evaluate": {"epsilon": 0.5, "norm": "l2"}}, 8),
        ({"atd": "broken", "evaluate": {"epsilon": float("nan")}}, 8),
        ({"atd": {"epsilon": "much"}, "evaluate": None}, 8),
    ],
)
def test_the_radius_is_that_of_the_evaluation(record, levels):
    assert recorded_levels(record) == levels
