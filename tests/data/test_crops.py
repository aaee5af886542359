from __future__ import annotations

import pytest
import torch
from PIL import Image

from atd.config import load
from atd.data.crops import crops
from atd.data.images import HeldPixels, ImageSet
from atd.data.sources import open_source
from atd.data.splits import load_splits
from atd.errors import UserError


def pictures(side: int, count: int = 3) -> ImageSet:
    """Every pixel tells its place: red is the column, green the row, blue the image."""
    ramp = torch.linspace(0, 255, side).round()
    columns, rows = ramp.expand(side, side), ramp[:, None].expand(side, side)
    pixels = [torch.stack([columns, rows, torch.full((side, side), n)]) for n in range(count)]
    names = [f"picture {n}" for n in range(count)]
    return ImageSet.of("toy", HeldPixels(torch.stack(pixels).to(torch.uint8), names))


@pytest.mark.parametrize(("large", "side"), [(40, 8), (160, 32), (9, 8), (8, 8), (5, 8)])
def test_a_crop_is_a_square_of_its_picture_in_order(large, side):
    made = crops(pictures(large), side)
    assert len(made) == 36
    pixels = made.fetch(range(36))
    assert pixels.shape == (36, 3, side, side)
    assert pixels.dtype == torch.uint8
    assert pixels[:, 2].flatten(1).amax(1).tolist() == [row // 12 for row in range(36)]
    across = pixels[:, 0, 0, -1].float() - pixels[:, 0, 0, 0].float()
    down = pixels[:, 1, -1, 0].float() - pixels[:, 1, 0, 0].float()
    assert (across >= 0).all()
    assert (across - down).abs().max() <= 2 * 255 / large + 2


def test_crops_differ_in_place_and_scale():
    pixels = crops(pictures(160, 40), 32).fetch(range(480)).float()
    share = (pixels[:, 0, 0, -1] - pixels[:, 0, 0, 0]) / 255
    assert share.min() > 0.1
    assert share.min() < 0.25
    assert share.max() > 0.9
    assert pixels[:, 0, 0, 0].std() > 20


def test_a_crop_is_the_same_whenever_it_is_fetched():
    made = crops(pictures(40), 8)
    alone = torch.cat([made.fetch([row]) for row in range(len(made))])
    order = torch.randperm(len(made)).tolist()
    assert torch.equal(alone[order], made.fetch(order))
    assert made.name_of(13) == "crop 2 of picture 1"


def test_a_folder_is_cropped_in_its_own_size(tmp_path):
    """Thin stripes that 8 pixels cannot show survive in a crop of a fifth of the side."""
    (tmp_path / "photos").mkdir()
    stripes = torch.zeros(40, 40, 3, dtype=torch.uint8)
    stripes[:, ::4] = stripes[:, 1::4] = 255
    Image.fromarray(stripes.numpy()).save(tmp_path / "photos" / "stripes.png")
    config = load(None, ["data.image_size=8", "data.channels=3"])
    made = open_source(f"crops:folder:{tmp_path}/photos", split="all", data=config.data)
    assert made.name == "photos-crops"
    contrast = made.fetch(range(12)).float().std((1, 2, 3))
    whole = open_source(f"folder:{tmp_path}/photos", split="all", data=config.data).fetch([0])
    assert contrast.max() > 3 * whole.float().std()


def test_crops_of_large_images_stay_within_what_can_be_read(tmp_path):
    Image.new("RGB", (600, 600), "red").save(tmp_path / "red.png")
    config = load(None, ["data.image_size=256", "data.channels=3"])
    made = open_source(f"crops:folder:{tmp_path}", split="all", data=config.data)
    assert made.fetch([3]).shape == (1, 3, 256, 256)


def test_crops_of_the_id_images_are_no_outliers(tmp_path):
    words = [
        f"data.id=folder:{tmp_path}",
        f"data.outliers=bundled:shapes + crops:folder:{tmp_path}",
    ]
    for index in range(20):
        Image.new("RGB", (64, 64), (index, 2 * index, 99)).save(tmp_path / f"{index}.png")
    with pytest.raises(UserError, match=r"data.outliers: crops:folder:.*altered:folder:"):
        load_splits(load(None, words))
