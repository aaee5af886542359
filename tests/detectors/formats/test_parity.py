"""What a written file is compared on, and when it is found out."""

from __future__ import annotations

import pytest
import torch

from atd.detectors.external import External
from atd.detectors.formats import parity
from atd.detectors.formats.parity import BATCHES, Samples, deviations, pictures
from atd.detectors.formats.traced import Scorer


@pytest.fixture(scope="module")
def scorer():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1), torch.nn.Flatten(0))
    return Scorer(External(network, image_size=8, channels=3))


@pytest.fixture(scope="module")
def samples(scorer):
    return Samples.of(scorer, pictures(scorer.detector, None))


def test_pictures_hold_real_attacked_and_boundary_images(scorer):
    found = pictures(scorer.detector, None)
    assert found.keys() == {"real", "blobs", "boundary", "attacked"}
    black, white, both = found["boundary"]
    assert (black == 0).all()
    assert (white == 255).all()
    assert set(both.unique().tolist()) == {0, 255}
    assert all(images.dtype == torch.uint8 for images in found.values())
    kept = torch.cat([found["real"][:4], found["blobs"][:4]])
    low, high = found["attacked"][8:], found["attacked"][:8]
    assert (scorer(high) > scorer(kept)).all()
    assert (scorer(low) < scorer(kept)).all()
    assert (high.int() - kept.int()).abs().max() <= 8


def test_the_users_own_images_are_compared_on_where_given(scorer):
    own = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(pictures(scorer.detector, own)["real"], own[:24])


@pytest.mark.parametrize("size", BATCHES[1:])
def test_a_file_that_is_wrong_at_one_batch_size_is_found_out(scorer, samples, size):
    def run(images):
        return scorer(images) + 0.5 * (len(images) == size) * (torch.arange(len(images)) == 0)

    with pytest.raises(RuntimeError, match=rf"file: batch {size}: scores differ by 0\.5"):
        deviations(run, samples, "file")


def test_a_file_that_gives_no_images_a_score_is_found_out(scorer, samples):
    with pytest.raises(RuntimeError, match="batch 0 gives scores of shape"):
        deviations(
            lambda images: scorer(images) if len(images) else torch.zeros(1), samples, "file"
        )


def test_a_file_that_differs_on_white_alone_is_found_out(scorer, samples):
    def run(images):
        return scorer(images) + 0.5 * (images.flatten(1).min(1).values == 255)

    with pytest.raises(RuntimeError, match="file: boundary: scores differ by 0.5"):
        deviations(run, samples, "file")


def test_the_same_scores_pass_at_every_size(scorer, samples):
    found = deviations(scorer, samples, "file")
    assert {f"batch {size}" for size in BATCHES} < found.keys()
    assert max(found.values()) <= samples.tolerance()


def test_large_networks_leave_out_large_batches(scorer, monkeypatch):
    monkeypatch.setattr(parity, "_MOST_WORK", 0)
    assert Samples.of(scorer, pictures(scorer.detector, None)).batches == (0, 1, 2, 7, 64)
