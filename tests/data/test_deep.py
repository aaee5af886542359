"""Images of more than 8 bits a channel: what is white in them, and what looks wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from deep_files import WRITERS, sgi
from deep_png import png
from PIL import Image

from atd.config import DataConfig, LoaderConfig
from atd.data.decoding import read_image
from atd.data.images import ImageSet
from atd.data.reading import FilePixels, settle
from atd.errors import UserError


def grey(path, white, rng):
    values = rng.integers(0, white + 1, (8, 8, 1))
    path.write_bytes(png(values))
    return values[..., 0]


def colour(path, white, rng):
    values = rng.integers(0, white + 1, (8, 8, 3))
    path.write_bytes(png(values))
    return values.transpose(2, 0, 1)


def tiff(path, white, rng):
    values = rng.integers(0, white + 1, (8, 8)).astype(np.int64)
    Image.fromarray(values.astype(np.uint16)).save(path, "TIFF")
    return values


@pytest.mark.parametrize("write", [grey, colour, tiff])
@pytest.mark.parametrize(("scale", "white"), [("12bit", 4095), ("10bit", 1023), ("16bit", 65535)])
def test_scale_says_what_is_white(tmp_path, write, scale, white):
    values = write(tmp_path / "a.img", white, np.random.default_rng(0))
    seen = read_image(str(tmp_path / "a.img"), 3, 8, scale).numpy()
    tolerance = 1.01 if (write, scale) == (colour, "16bit") else 0.51
    assert np.abs(seen - values * 255 / white).max() <= tolerance


def test_eight_bits_stay_as_they_are(tmp_path):
    Image.linear_gradient("L").save(tmp_path / "a.png")
    plain = read_image(str(tmp_path / "a.png"), 1, 256)
    assert torch.equal(read_image(str(tmp_path / "a.png"), 1, 256, "12bit"), plain)


@pytest.mark.parametrize("kind", WRITERS)
def test_colour_that_cannot_be_scaled_is_refused(tmp_path, kind):
    values = np.random.default_rng(0).integers(0, 4096, (8, 8, 3)).astype(np.uint16)
    (tmp_path / "a.img").write_bytes(WRITERS[kind](values))
    with pytest.raises(UserError, match=r"a\.img: .*colour of 16 bits in a \w+ cannot be scaled"):
        read_image(str(tmp_path / "a.img"), 3, 8, "12bit")


@pytest.mark.parametrize("kind", ["PPM", "plain PPM", "SGI"])
def test_colour_that_leaves_its_range_mostly_empty_is_told(tmp_path, kind, capsys):
    values = np.random.default_rng(0).integers(0, 4096, (8, 8, 3)).astype(np.uint16)
    (tmp_path / "a.img").write_bytes(WRITERS[kind](values))
    assert "set data.scale=12bit" in settled(tmp_path, capsys)


def test_grey_of_16_bits_in_an_sgi_is_told_by_all_its_pixels(tmp_path, capsys):
    values = np.zeros((8, 8, 1), np.uint16)
    values[:, 7] = 65535
    (tmp_path / "a.img").write_bytes(sgi(values))
    assert settled(tmp_path, capsys) == ""


@pytest.mark.parametrize("kind", ["PPM", "SGI", "JPEG2000"])
def test_colour_of_8_bits_is_not_scaled_in_any_format(tmp_path, kind):
    image = Image.radial_gradient("L").convert("RGB").resize((8, 8))
    image.save(tmp_path / "a.img", kind)
    plain = read_image(str(tmp_path / "a.img"), 3, 8)
    assert torch.equal(read_image(str(tmp_path / "a.img"), 3, 8, "12bit"), plain)


@pytest.mark.parametrize("scale", ["auto", "10bit", "12bit", "16bit"])
@pytest.mark.parametrize("colour", [False, True])
def test_a_netpbm_file_that_states_its_white_is_read_by_it(tmp_path, scale, colour):
    values = np.full((8, 8, 3 if colour else 1), 512)
    values[0, 0] = 1023
    head = b"P6" if colour else b"P5"
    (tmp_path / "a.img").write_bytes(head + b" 8 8 1023\n" + values.astype(">u2").tobytes())
    found = read_image(str(tmp_path / "a.img"), 3, 8, scale)
    assert found[0, 0, 0] == 255
    assert abs(int(found[0, 4, 4]) - 128) <= 1


def settled(folder, capsys, **options):
    names = sorted(str(path) for path in folder.iterdir())
    images = ImageSet.of("camera", FilePixels(names, 1, 8, options.get("scale", "auto")))
    data = DataConfig(image_size=8, channels=1, **options)
    settle(images, data, LoaderConfig())
    return capsys.readouterr().err


@pytest.mark.parametrize("write", [grey, colour, tiff])
@pytest.mark.parametrize(("bits", "told"), [(12, True), (10, True), (14, True), (16, False)])
def test_a_range_left_mostly_empty_is_told_once(tmp_path, write, bits, told, capsys):
    for index in range(5):
        write(tmp_path / f"{index}.png", 2**bits - 1, np.random.default_rng(index))
    said = settled(tmp_path, capsys)
    assert (f"set data.scale={bits}bit" in said) is told
    assert said.count("\n") == told
    if told:
        assert settled(tmp_path, capsys, scale=f"{bits}bit") == ""


def test_values_beyond_the_scale_are_told(tmp_path, capsys):
    grey(tmp_path / "a.png", 65535, np.random.default_rng(0))
    assert "1 image(s) have values beyond data.scale=12bit" in settled(
        tmp_path, capsys, scale="12bit"
    )


def test_floats_beyond_255_are_told(tmp_path, capsys):
    Image.fromarray(np.full((8, 8), 4000, np.float32)).save(tmp_path / "a.tif")
    assert "values beyond data.scale=auto" in settled(tmp_path, capsys)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_that_are_no_numbers_are_no_image(tmp_path, value):
    pixels = np.full((8, 8), 0.5, np.float32)
    pixels[3, 4] = value
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: not readable as an image \(NaN or infinity"):
        read_image(str(tmp_path / "a.tif"), 1, 8)


@pytest.mark.parametrize(("rest", "told"), [(0.5, True), (120.0, False)])
def test_floats_of_which_few_lie_above_1_are_told(tmp_path, capsys, rest, told):
    pixels = np.full((8, 8), rest, np.float32)
    pixels[3, 4] = max(rest, 1.002)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    said = settled(tmp_path, capsys)
    assert ("1 image(s) of floats have values above 1, so that 255 is white" in said) is told
