from __future__ import annotations

import numpy as np
import pytest

from atd.data import bundled, procedural

KINDS = {
    "signs": lambda count, rng: procedural.signs(count, rng),
    "leaves": lambda count, rng: procedural.leaves(count, rng),
    "spectra": lambda count, rng: procedural.spectra(32, count, rng),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_fixed_by_the_seed_and_all_differ(kind):
    one, two = (KINDS[kind](40, np.random.default_rng(3)) for _ in range(2))
    arrays = [np.asarray(picture) for picture in one]
    assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(arrays, two, strict=True))
    assert len({array.tobytes() for array in arrays}) == 40
    assert all(array.shape[2] == 3 for array in arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_a_quarter_is_grey(kind):
    arrays = [np.asarray(p).astype(int) for p in KINDS[kind](40, np.random.default_rng(0))]
    grey = [bool((a == a[..., :1]).all()) for a in arrays]
    assert sum(grey) == 10


def test_power_of_spectra_falls_with_frequency():
    arrays = [np.asarray(p).mean(2) for p in procedural.spectra(64, 30, np.random.default_rng(1))]
    power = sum(np.abs(np.fft.rfft2(a - a.mean())) ** 2 for a in arrays)
    low, high = power[1:4, 1:4].mean(), power[28:32, 28:32].mean()
    assert low > 5 * high


def test_no_glyph_of_a_test_set_is_written():
    written = set(procedural._LETTERS)
    assert not written & set(bundled._LOWERCASE + bundled._SYMBOLS + "0123456789")
