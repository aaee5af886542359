"""The released evaluation: what it attacks, what it cannot, and how it counts that."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from toys import TIER, Brightness, grey

from atd.evaluation.settings import Settings
from atd.experiments.released_attack import attack_as_released, flat_share, saturated_share

SETTINGS = Settings(tier=TIER, epsilon=8 / 255, batch_size=3)


class Shifted(Brightness):
    """The mean brightness between two values that lie as far out as is asked for."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, images):
        return super().forward(images) + self.shift


def test_a_score_near_zero_is_moved_by_the_whole_radius():
    images = grey("grey", 100, 150, 5)
    for is_ood, sign in ((False, 1), (True, -1)):
        found = attack_as_released(Shifted(-5.0), images, SETTINGS, is_ood=is_ood)
        logit = 10 * images.pixels.double().flatten(1).mean(1).numpy() / 255 - 5
        np.testing.assert_allclose(found.clean, -1 / (1 + np.exp(logit)), rtol=1e-4)
        moved = logit + sign * 10 * 8 / 255
        np.testing.assert_allclose(found.attacked, -1 / (1 + np.exp(moved)), rtol=1e-4)
        assert not found.flat.any()


def test_an_image_that_it_is_sure_of_stays_where_the_noise_put_it():
    images = grey("grey", 100, 150, 5)
    found = attack_as_released(Shifted(-30.0), images, SETTINGS, is_ood=False)
    assert found.flat.all()
    assert (found.attacked == -1).all()


def test_it_runs_without_tf32(monkeypatch):
    seen = set()

    class Probe(Brightness):
        def forward(self, images):
            seen.add(torch.backends.cudnn.allow_tf32)
            return super().forward(images)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    attack_as_released(Probe(), grey("grey", 100, 150, 5), SETTINGS, is_ood=False)
    assert seen == {False}
    assert torch.backends.cudnn.allow_tf32


def test_batches_change_nothing():
    images, detector = grey("grey", 60, 200, 7), Shifted(-5.0)
    whole = dataclasses.replace(SETTINGS, batch_size=100)
    parts, one = (attack_as_released(detector, images, s, is_ood=True) for s in (SETTINGS, whole))
    np.testing.assert_array_equal(parts.attacked, one.attacked)


@pytest.mark.parametrize(
    ("dtype", "flat", "saturated"),
    [(torch.float32, 1 / 4, 1 / 4), (torch.bfloat16, 2 / 4, 2 / 4), (torch.float64, 0, 0)],
)
def test_shares_depend_on_the_precision(dtype, flat, saturated):
    logits = np.array([-20.0, -10.0, -2.0, 3.0])
    assert flat_share(logits, is_ood=False, dtype=dtype) == flat
    assert saturated_share(logits, dtype) == saturated
