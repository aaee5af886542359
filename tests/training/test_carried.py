"""Perturbations carried from one visit of an image to the next."""

from __future__ import annotations

import pytest
import torch

from atd.data.augment import augment
from atd.errors import UserError
from atd.training.carried import CarriedPerturbations, require_room

EPSILON, BATCH = 0.1, 6


@pytest.fixture
def stream(random_images, stream_of):
    return stream_of(random_images("id", 12), BATCH, augment="crop-flip")


@pytest.fixture
def carried(stream, processes):
    return CarriedPerturbations(stream, EPSILON, (1, 8, 8), processes)


def batch(stream, step):
    drawn = stream.drawn(step)
    pixels = augment(stream.images.fetch(stream.indices(step)), stream.augment, drawn)
    return pixels.float() / 255


def test_first_starts_are_random_in_the_ball_and_a_function_of_the_seed(stream, processes):
    one, other = (CarriedPerturbations(stream, EPSILON, (1, 8, 8), processes) for _ in range(2))
    start = one.start(0)
    assert torch.equal(start, other.start(0))
    assert start.abs().max() <= 1
    assert start.std() > 0.4
    assert not torch.equal(start, one.start(1))


def test_what_was_kept_comes_back_with_the_image_however_it_is_augmented(stream, carried):
    # A perturbation that is a function of the original pixel, so that its place can be told.
    field = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    for step in range(2):  # both halves of the set
        images = batch(stream, step)
        moved = augment(field.expand(BATCH, -1, -1, -1), stream.augment, stream.drawn(step))
        carried.keep(step, images, images + EPSILON * moved)
    shown = 0
    for step in range(2, 4):
        expected = augment(field.expand(BATCH, -1, -1, -1), stream.augment, stream.drawn(step))
        right = (carried.start(step) - expected).abs() <= 1 / 127
        assert right.flatten(1).float().mean(1).min() > 0.5
        shown += right.sum()
    assert shown > 0.75 * 2 * BATCH * 64  # the rest was out of the picture and is random still


def test_without_augmentation_nothing_is_lost(random_images, stream_of, processes):
    stream = stream_of(random_images("id", 12), 12, augment="none")
    carried = CarriedPerturbations(stream, EPSILON, (1, 8, 8), processes)
    images = batch(stream, 0)
    change = EPSILON * (2 * torch.rand_like(images) - 1)
    carried.keep(0, images, images + change)
    back = torch.empty_like(change)
    back[stream.indices(1)] = EPSILON * carried.start(1)
    put = torch.empty_like(change)
    put[stream.indices(0)] = change
    torch.testing.assert_close(back, put, rtol=0, atol=EPSILON / 127)


def test_rounding_errors_do_not_decide_what_is_stored(stream, carried):
    images = batch(stream, 0)
    for share in (0.25, 0.5, -0.5, 1.0):  # round fractions of epsilon
        change = torch.full_like(images, share * EPSILON)
        stored = []
        for error in (-1e-7, 0, 1e-7):
            carried.keep(0, images, images + change + error)
            stored.append(carried.levels.clone())
        assert torch.equal(stored[0], stored[1])
        assert torch.equal(stored[1], stored[2])


def test_too_large_a_set_is_refused_with_a_remedy(stream):
    require_room((stream,), (1, 8, 8), 1)
    with pytest.raises(UserError, match=r"perturbations of id take .* loader\.memory_mb=1;"):
        require_room((stream,), (3, 512, 512), 1)


def test_of_an_image_that_a_batch_holds_twice_the_last_one_is_kept(
    random_images, stream_of, processes
):
    stream = stream_of(random_images("id", 5), BATCH, augment="none")
    carried = CarriedPerturbations(stream, EPSILON, (1, 8, 8), processes)
    places = stream.indices(0).tolist()
    assert len(set(places)) < len(places)
    images = batch(stream, 0)
    share = torch.linspace(-1, 1, BATCH)[:, None, None, None]
    carried.keep(0, images, images + EPSILON * share)
    for place in set(places):
        last = max(at for at, other in enumerate(places) if other == place)
        stored = carried.levels[place].float() / 127
        assert torch.allclose(stored, share[last].expand_as(stored), atol=1 / 127)
