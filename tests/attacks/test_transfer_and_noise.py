"""Attacks that do not look at the objective they are judged by keep the clean image if better."""

from functools import partial

import pytest
import torch
from torch import Tensor

from atd.attacks import fgsm, random_noise, transfer

IMAGES = torch.full((3, 1, 2, 2), 0.5)


def brightness(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3))


def test_transferred_images_have_the_values_of_the_other_model() -> None:
    found = transfer(
        brightness, lambda x: 10 * brightness(x), IMAGES, attack=partial(fgsm, epsilon=0.1)
    )
    torch.testing.assert_close(found.images, IMAGES + 0.1)
    torch.testing.assert_close(found.values, torch.full((3,), 6.0))


def test_a_transfer_that_fails_leaves_the_clean_image() -> None:
    found = transfer(
        brightness, lambda x: -brightness(x), IMAGES, attack=partial(fgsm, epsilon=0.1)
    )
    assert torch.equal(found.images, IMAGES)
    torch.testing.assert_close(found.values, torch.full((3,), -0.5))


@pytest.mark.parametrize(("norm", "moved"), [("linf", 0.2), ("l2", 0.1)])
def test_noise_moves_where_it_points_unless_that_is_worse(norm: str, moved: float) -> None:
    noise = torch.tensor([1.0, -1.0, 0.0])[:, None, None, None].expand(IMAGES.shape)
    found = random_noise(brightness, IMAGES, epsilon=0.2, noise=noise, norm=norm)
    torch.testing.assert_close(found.values, torch.tensor([0.5 + moved, 0.5, 0.5]))
    torch.testing.assert_close(brightness(found.images), found.values)
