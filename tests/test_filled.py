"""An image's value does not depend on how many others are in its batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from atd.attacks import pgd
from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig
from atd.inference import filled


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    config = DetectorConfig(
        kind="atd",
        backbone={"width": 8},
        classes=["a", "b"],
        image_size=16,
        channels=3,
        options={"normalisation": "layer"},
    )
    made = build_detector(config)
    for parameter in made.discriminator.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    return made.eval().requires_grad_(False)


@given(count=st.integers(1, 40), columns=st.integers(0, 2))
def test_the_function_sees_whole_blocks_and_answers_for_the_images_alone(count, columns):
    sizes = []

    def function(images):
        sizes.append(len(images))
        means = images.mean((1, 2, 3))
        return means if not columns else means[:, None].expand(-1, columns)

    images = torch.rand(count, 1, 2, 2)
    found = filled(function)(images)
    assert torch.equal(found, function(images))
    assert sizes[0] % 8 == 0
    assert 0 <= sizes[0] - count < 8


def test_copies_add_nothing_to_a_gradient():
    images = torch.rand(3, 1, 2, 2, requires_grad=True)
    # Of a sum over all that the function was given, copies included, added to each image's own.
    filled(lambda x: x.square().sum((1, 2, 3)) + x.square().sum())(images).sum().backward()
    assert torch.allclose(images.grad, (1 + 3) * 2 * images.detach())


@pytest.mark.parametrize(
    ("count", "threads"), [(1, 1), (2, 1), (3, 1), (7, 1), (9, 1), (20, 1), (7, 2), (20, 2)]
)
def test_values_and_attacks_are_the_same_bits_in_a_batch_of_any_size(detector, count, threads):
    images = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    function, before = filled(detector.logits), torch.get_num_threads()
    whole = pgd(function, images, epsilon=0.1, steps=2)
    torch.set_num_threads(threads)
    try:
        parts = [pgd(function, part, epsilon=0.1, steps=2) for part in images.split(count)]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.cat([part.values for part in parts]), whole.values)
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
