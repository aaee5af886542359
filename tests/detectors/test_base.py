"""What every detector does: scores, thresholds, images of any kind, wrong input."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from making import SIZE, line_of, make_detector, some_images

from atd.errors import UserError


@pytest.mark.parametrize("backbone", [True, False])
def test_bytes_floats_and_logits_agree(backbone):
    detector, images = make_detector(backbone).eval(), some_images()
    scores = detector.score(images)
    assert (scores.shape, scores.dtype, scores.device.type) == ((5,), torch.float32, "cpu")
    assert torch.equal(scores, detector.score(images.float() / 255))
    assert torch.equal(scores, detector.logits(images.float() / 255))
    torch.testing.assert_close(scores, detector.score(images, batch_size=2))
    assert detector.score(images[:0]).shape == (0,)


def test_scoring_uses_evaluation_mode_and_leaves_no_trace():
    detector, images = make_detector().train(), some_images()
    detector.discriminator.eval()
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    scores = detector.score(images)
    assert detector.training
    assert not detector.discriminator.training
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())
    assert torch.equal(scores, detector.eval().score(images))


def test_logits_are_differentiable_down_to_the_pixels():
    detector = make_detector().eval()
    images = (some_images().float() / 255).requires_grad_(True)
    detector.logits(images).sum().backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(4, SIZE, SIZE), "shape"),
        (torch.zeros(1, 1, SIZE, SIZE), "(N, 3, 8, 8)"),
        (torch.zeros(1, 3, SIZE, SIZE + 1), "shape"),
        (torch.zeros(1, 3, SIZE, SIZE, dtype=torch.int64), "int64"),
        (torch.full((1, 3, SIZE, SIZE), 255.0), "255"),
        (torch.full((1, 3, SIZE, SIZE), -0.1), "-0.1"),
        (torch.full((1, 3, SIZE, SIZE), float("nan")), "nan"),
    ],
)
def test_unfit_images_are_refused_in_one_line(images, words):
    with pytest.raises(UserError) as error:
        make_detector().score(images)
    assert words in line_of(error)


def test_predict_splits_at_the_threshold():
    images = some_images()
    detector = make_detector()
    scores = detector.score(images)
    limit = float(scores.median())
    assert torch.equal(detector.predict(images, limit), scores > limit)
    detector.config = dataclasses.replace(detector.config, threshold=limit)
    assert torch.equal(detector.predict(images), scores > limit)
    assert detector.predict(images).sum() == 2  # the median itself passes
    assert detector.predict(images, -1e9).all()


def test_predict_without_a_threshold_says_what_to_do():
    with pytest.raises(UserError) as error:
        make_detector().predict(some_images())
    assert "threshold" in line_of(error)
