"""Augmentation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atd.data.augment import augment, draw, put_back


def expected(image, row_shift, column_shift, mirrored):
    """The same by padding and cropping, for one image."""
    size = image.shape[-1]
    reach = max(1, round(size / 8))
    padded = torch.nn.functional.pad(image[None].float(), (reach,) * 4, mode="reflect")[0]
    top, left = reach + row_shift, reach + column_shift
    cropped = padded[:, top : top + size, left : left + size]
    return (cropped.flip(-1) if mirrored else cropped).to(image.dtype)


@given(st.integers(8, 33), st.integers(0, 2**31), st.sampled_from(["crop", "crop-flip"]))
def test_equals_reflection_padding_crop_and_flip(size, seed, kind):
    images = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    drawn = draw(4, torch.Generator().manual_seed(seed))
    reach = max(1, round(size / 8))
    shifts = (drawn[:, :2] * (2 * reach + 1)).long() - reach
    result = augment(images, kind, drawn)
    for index in range(4):
        mirrored = kind == "crop-flip" and bool(drawn[index, 2] < 0.5)
        row, column = shifts[index].tolist()
        assert torch.equal(result[index], expected(images[index], row, column, mirrored))


def test_none_changes_nothing():
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(augment(images, "none", torch.Generator()), images)


def test_same_generator_same_images_and_floats_like_bytes():
    images = torch.randint(0, 256, (16, 1, 12, 12), dtype=torch.uint8)
    once = augment(images, "crop-flip", torch.Generator().manual_seed(5))
    again = augment(images.float(), "crop-flip", torch.Generator().manual_seed(5))
    assert torch.equal(once.float(), again)
    assert once.is_contiguous()


def test_every_sample_draws_for_itself_and_all_shifts_occur():
    image = torch.arange(16 * 16, dtype=torch.int64).reshape(1, 1, 16, 16)
    result = augment(image.expand(2000, -1, -1, -1), "crop-flip", torch.Generator())
    assert len(torch.unique(result.flatten(1), dim=0)) == 5 * 5 * 2


@pytest.mark.parametrize("cut", [0, 3, 16])
def test_a_part_of_a_batch_can_be_augmented_alone(cut):
    images = torch.rand(16, 3, 8, 8)
    drawn = draw(16, torch.Generator().manual_seed(0))
    parts = [augment(images[:cut], "crop-flip", drawn[:cut])]
    parts.append(augment(images[cut:], "crop-flip", drawn[cut:]))
    assert torch.equal(torch.cat(parts), augment(images, "crop-flip", drawn))


@given(
    st.integers(8, 33),
    st.integers(0, 2**31),
    st.sampled_from(["none", "crop", "crop-flip"]),
)
def test_put_back_undoes_it_where_the_augmented_image_shows_the_pixel(size, seed, kind):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(4, 2, size, size, generator=generator)
    drawn = draw(4, generator)
    originals = torch.full_like(images, -1.0)
    back = put_back(augment(images, kind, drawn), kind, drawn, originals)
    shown = back >= 0
    assert torch.equal(back[shown], images[shown])
    reach = max(1, round(size / 8))
    assert shown.float().mean() >= ((size - reach) / size) ** 2 - 1e-6
    assert kind != "none" or shown.all()
