from __future__ import annotations

import pytest
import torch

from atd.data.altered import ALTERATIONS, altered
from atd.data.images import HeldPixels, ImageSet

SIDES = (8, 15, 32)


def images(side: int, count: int = 7) -> ImageSet:
    pixels = torch.randint(256, (count, 3, side, side), generator=torch.Generator().manual_seed(0))
    names = [f"image {index}" for index in range(count)]
    return ImageSet.of("toy", HeldPixels(pixels.to(torch.uint8), names))


@pytest.mark.parametrize("side", SIDES)
def test_every_image_is_altered_in_every_way(side):
    original, made = images(side), altered(images(side))
    assert len(made) == len(ALTERATIONS) * len(original)
    pixels = made.fetch(range(len(made)))
    assert pixels.shape[1:] == (3, side, side)
    assert pixels.dtype == torch.uint8
    known = {image.numpy().tobytes() for image in original.fetch(range(len(original)))}
    assert all(image.numpy().tobytes() not in known for image in pixels)


@pytest.mark.parametrize("values", [[0, 0, 0], [0, 255, 0, 255], [7]])
def test_no_alteration_leaves_an_image_as_it_was(values):
    """Plain images, copies of one another, black and white ones, and a single image."""
    rows = torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8).clone()
    rows[len(values) // 2 :, :, :3] = 255  # black and white: posterising changes nothing
    source = ImageSet.of("plain", HeldPixels(rows, [f"{n}" for n in range(len(rows))]))
    made = altered(source)
    for row, image in enumerate(made.fetch(range(len(made)))):
        origin = rows[int(made.name_of(row).split(" of ")[1])]
        assert not torch.equal(image, origin), made.name_of(row)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images_stay_grey(channels):
    source = images(16)
    grey = source.fetch(range(len(source)))[:, :1].expand(-1, channels, -1, -1)
    made = altered(ImageSet.of("grey", HeldPixels(grey.clone(), [str(n) for n in range(7)])))
    assert made.fetch(range(len(made))).shape == (len(made), channels, 16, 16)


def test_an_image_is_the_same_whenever_it_is_fetched():
    made = altered(images(16))
    alone = torch.cat([made.fetch([row]) for row in range(len(made))])
    assert torch.equal(alone, made.fetch(range(len(made))))


def test_names_tell_what_was_done_to_which_image():
    made = altered(images(8))
    assert made.name_of(0) == "jigsaw of image 0"
    assert {made.name_of(row).split(" of ")[0] for row in range(len(made))} == set(ALTERATIONS)


def test_jigsaw_and_strips_keep_the_pixels_and_phases_the_amplitudes():
    source = images(16)
    made = altered(source)
    jigsaw = made.fetch(range(len(source)))
    whole = source.fetch(range(len(source)))
    assert torch.equal(jigsaw.flatten(2).sort(2).values, whole.flatten(2).sort(2).values)
    grey = torch.full((1, 3, 16, 16), 128, dtype=torch.uint8)
    grey[0, :, 4:9] = 140
    flat = altered(ImageSet.of("flat", HeldPixels(grey, ["flat"])))
    row = list(ALTERATIONS).index("phases")
    before, after = (torch.fft.rfft2(x[0].float()).abs() for x in (grey, flat.fetch([row])))
    assert torch.allclose(before[:, 0, 0], after[:, 0, 0], rtol=0.01)
    assert torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1] > 0.99
