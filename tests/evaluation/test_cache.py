"""Scores that were found before are found again, and only those."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scored import Counting, Stopping, assert_same, score
from toys import Brightness

from atd.data.images import HeldPixels, ImageSet
from atd.evaluation.cache import ScoreStore


def test_finished_sets_are_not_scored_again(convolutional, images, tmp_path: Path) -> None:
    counting, sample = Counting(convolutional), images("a/b c", 0, 256, 9)
    first = score(counting, sample, cache=tmp_path)
    calls = counting.calls
    assert_same(score(counting, sample, cache=tmp_path), first)
    assert counting.calls == calls
    assert [file.suffix for file in tmp_path.iterdir()] == [".npz"]


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": 0.1},
        {"steps": 6},
        {"restarts": 2},
        {"seed": 1},
        {"direction": -1},
        {"kind": "fgsm"},
        {"norm": "l2"},
        {"stop": -5.0},
        {"draws": 2},
        {"targets": torch.rand(2, 3, 8, 8)},
        {"sources": (Brightness(),)},
    ],
)
def test_cache_tells_attacks_apart(convolutional, images, tmp_path: Path, change) -> None:
    counting, sample = Counting(convolutional), images("any", 0, 256, 5)
    score(counting, sample, cache=tmp_path)
    calls = counting.calls
    assert_same(
        score(counting, sample, cache=tmp_path, **change), score(convolutional, sample, **change)
    )
    assert counting.calls > calls


def test_cache_tells_weights_and_images_apart(convolutional, images, tmp_path: Path) -> None:
    counting, sample = Counting(convolutional), images("any", 0, 256, 5)
    score(counting, sample, cache=tmp_path)
    with torch.no_grad():
        next(convolutional.parameters()).add_(0.1)
    assert_same(score(counting, sample, cache=tmp_path), score(convolutional, sample))
    other = images("any", 0, 256, 5, seed=9)
    assert_same(score(counting, other, cache=tmp_path), score(convolutional, other))


def test_one_other_pixel_makes_another_set(tmp_path: Path) -> None:
    pixels = torch.zeros(300, 1, 2, 2, dtype=torch.uint8)
    files = {ScoreStore.of(tmp_path, _set(pixels)).file}
    for index in range(300):
        other = pixels.clone()
        other[index, 0, 1, 1] = 1
        files.add(ScoreStore.of(tmp_path, _set(other)).file)
    assert len(files) == 301


def _set(pixels: torch.Tensor) -> ImageSet:
    return ImageSet.of("any", HeldPixels(pixels, [""] * len(pixels)))


@pytest.mark.parametrize("batch_size", [4, 3, 9])
def test_interrupted_set_goes_on_after_the_last_batch(
    convolutional, images, tmp_path: Path, batch_size
) -> None:
    sample = images("any", 0, 256, 10)
    whole = score(convolutional, sample)
    with pytest.raises(KeyboardInterrupt):
        score(Stopping(convolutional, 10), sample, batch_size=4, cache=tmp_path)
    counting = Stopping(convolutional, 1000)
    resumed = score(counting, sample, batch_size=batch_size, cache=tmp_path)
    np.testing.assert_array_equal(resumed.attacked, whole.attacked)
    np.testing.assert_array_equal(resumed.example_index, whole.example_index)
    fresh = Stopping(convolutional, 1000)
    score(fresh, sample, batch_size=batch_size)
    assert fresh.left < counting.left
    assert [file.suffix for file in tmp_path.iterdir()] == [".npz"]


def test_damaged_cache_is_computed_again(convolutional, images, tmp_path: Path) -> None:
    sample = images("any", 0, 256, 5)
    first = score(convolutional, sample, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    for damage in (b"", b"not a zip", file.read_bytes()[:200]):
        file.write_bytes(damage)
        assert_same(score(convolutional, sample, cache=tmp_path), first)
