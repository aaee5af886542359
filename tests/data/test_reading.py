"""Decoding, listing and settling."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atd.config import DataConfig, LoaderConfig, load
from atd.data.decoding import UnreadableImage, decode
from atd.data.fingerprint import fingerprint_images
from atd.data.images import ImageSet
from atd.data.listing import list_images
from atd.data.reading import FilePixels, settle
from atd.data.sources import open_source
from atd.data.splits import load_splits
from atd.errors import UserError


def gradient(width, height):
    y, x = np.mgrid[0:height, 0:width]
    values = np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), 0 * x + 90], 2)
    return Image.fromarray(values.astype(np.uint8))


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 3]), st.sampled_from([8, 13]))
def test_any_size_becomes_a_square(width, height, channels, size):
    tensor = decode(gradient(width, height), channels, size)
    assert tensor.shape == (channels, size, size)
    assert tensor.dtype == torch.uint8


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_shows_the_same_picture(mode, channels):
    picture = gradient(16, 16).convert("L").point(lambda value: 255 * (value > 100))
    through_mode = decode(
        picture.convert("RGB").convert(mode) if mode != "LAB" else picture, channels, 16
    )
    assert (through_mode.int() - decode(picture, channels, 16).int()).abs().max() <= 2


def test_right_size_is_left_alone_and_grey_is_repeated():
    picture = gradient(12, 12)
    assert np.array_equal(decode(picture, 3, 12).permute(1, 2, 0).numpy(), np.asarray(picture))
    grey = decode(picture.convert("L"), 3, 12)
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], decode(picture, 1, 12)[0])


def test_wide_and_tall_images_are_cropped_at_the_centre():
    wide = Image.new("RGB", (30, 10), "red")
    wide.paste("blue", (10, 0, 20, 10))
    assert decode(wide, 3, 10)[:, :, 5].tolist() == [[0] * 10, [0] * 10, [255] * 10]
    tall = wide.transpose(Image.Transpose.ROTATE_90)
    assert torch.equal(decode(tall, 3, 8), decode(wide, 3, 8).rot90(1, (1, 2)))
    assert decode(wide, 3, 8)[2].min() > 240


def test_equals_resizing_the_shorter_side_and_cropping_the_centre():
    picture = gradient(48, 32)
    whole = picture.resize((24, 16), Image.Resampling.BICUBIC).crop((4, 0, 20, 16))
    assert (decode(picture, 3, 16).int() - decode(whole, 3, 16).int()).abs().max() <= 1


def test_shrinking_is_antialiased():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    tensor = decode(Image.fromarray(checks.astype(np.uint8)), 1, 8).int()
    assert (tensor - 127).abs().max() <= 6


@pytest.mark.parametrize("kind", ["I;16", "I", "F", "F255"])
def test_deep_grey_is_scaled(kind):
    ramp = np.linspace(0, 1, 64).reshape(8, 8)
    match kind:
        case "I;16":
            image = Image.fromarray((ramp * 65535).astype(np.uint16))
        case "I":
            image = Image.fromarray((ramp * 65535).astype(np.int32))
        case "F":
            image = Image.fromarray(ramp.astype(np.float32))
        case _:
            image = Image.fromarray((ramp * 255).astype(np.float32))
    assert np.abs(decode(image, 1, 8)[0].numpy() - ramp * 255).max() <= 1


def test_16_bit_png_file(tmp_path):
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    tensor = FilePixels([str(tmp_path / "deep.png")], 3, 8).fetch([0])[0]
    assert np.abs(tensor[0].numpy() - ramp / 257).max() <= 1


def test_transparency_is_laid_on_white():
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert decode(clear, 3, 8).min() == 255
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([200, 0, 0, 0, 0, 90])
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=0)
    assert decode(Image.open(buffer), 3, 8).min() == 255
    half = Image.new("LA", (8, 8), (0, 128))
    assert decode(half, 1, 8).float().mean() == pytest.approx(127, abs=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = gradient(16, 16)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    tensor = FilePixels([str(tmp_path / "turned.png")], 3, 16).fetch([0])[0]
    assert torch.equal(tensor, decode(upright, 3, 16))


def test_listing_is_recursive_sorted_and_skips_what_is_hidden(tmp_path):
    for name in [
        "b/2.png",
        "b/1.JPG",
        "a/deep/x.webp",
        ".hidden/y.png",
        "b/._1.png",
        "__MACOSX/z.png",
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "a/loop").symlink_to(tmp_path, target_is_directory=True)
    assert list_images(tmp_path) == ["a/deep/x.webp", "b/1.JPG", "b/2.png"]


@pytest.fixture
def folder(tmp_path):
    for index in range(70):
        Image.new("RGB", (10, 9), (index, 2 * index, 255 - index)).save(
            tmp_path / f"{index:02}.png"
        )
    return tmp_path


def image_set(folder):
    return ImageSet.of("some", FilePixels([f"{folder}/{n}" for n in list_images(folder)], 3, 8))


def test_small_sets_are_held_and_large_ones_stream(folder):
    data = DataConfig(image_size=8)
    held, hashes = settle(image_set(folder), data, LoaderConfig(memory_mb=1))
    streaming, again = settle(image_set(folder), data, LoaderConfig(memory_mb=0))
    assert held.in_memory
    assert not streaming.in_memory
    assert hashes == again
    assert len(set(hashes)) == 70
    everything = torch.arange(70)
    assert torch.equal(held.fetch(everything), streaming.fetch(everything))
    assert held.names() == streaming.names()


def break_file(path, how):
    match how:
        case "truncated":
            path.write_bytes(path.read_bytes()[:50])
        case "text":
            path.write_text("no image")
        case "empty":
            path.write_bytes(b"")
        case "dangling":
            path.unlink()
            path.symlink_to(path.with_name("nowhere.png"))


@pytest.mark.parametrize("how", ["truncated", "text", "empty", "dangling"])
@pytest.mark.parametrize("memory", [0, 100])
def test_unreadable_images_are_named_or_skipped(folder, how, memory, capsys):
    break_file(folder / "33.png", how)
    loader = LoaderConfig(memory_mb=memory)
    with pytest.raises(UnreadableImage, match=r"33\.png: not readable .* data\.skip_corrupt=true"):
        settle(image_set(folder), DataConfig(image_size=8), loader)
    data = DataConfig(image_size=8, skip_corrupt=True)
    images, hashes = settle(image_set(folder), data, loader)
    assert len(images) == len(hashes) == 69
    assert not any("33.png" in name for name in images.names())
    assert images.fetch([33])[0, 0, 0, 0] == 34
    assert "1 unreadable image(s) left out" in capsys.readouterr().err


def test_nothing_readable_is_an_error(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match="none of its 1 images is readable"):
        settle(image_set(tmp_path), DataConfig(skip_corrupt=True), LoaderConfig())


def test_other_processes_stay_silent(folder, capsys, monkeypatch):
    monkeypatch.setitem(os.environ, "RANK", "1")
    (folder / "00.png").write_text("no image")
    settle(image_set(folder), DataConfig(image_size=8, skip_corrupt=True), LoaderConfig())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("labelled", [True, False])
def test_what_a_folder_holds_besides_is_counted_and_named_once(folder, labelled, capsys):
    (folder / "notes.TXT").touch()
    (folder / "IMG_1.HEIC").touch()
    (folder / "scan").touch()
    (folder / "._00.png").touch()
    (folder / ".hidden.png").touch()
    (folder / ".git").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    for index in range(2 if labelled else 0):
        (folder / "more").mkdir(exist_ok=True)
        (folder / "more" / f"{index}.jpeg.part").touch()
    data = DataConfig(image_size=8)
    images = open_source(f"folder:{folder}", split="all", data=data)
    assert len(images) == 70
    held, rest = images.subset(torch.arange(5)), images.subset(torch.arange(5, 70))
    settle(held, data, LoaderConfig())
    settle(rest, data, LoaderConfig())
    expected = {
        ".txt files": 1,
        "files without extension": 1,
        "macOS companions (._*)": 1,
        "hidden files": 1,
        "hidden folders": 1,
        "pipes, sockets or devices": 1,
        "folders met again through links": 1,
        **({".part files": 2} if labelled else {}),
    }
    counts = {reason: n for reason, n in rest.left_out.counts.items() if ".heic" not in reason}
    assert counts == expected
    (line,) = capsys.readouterr().err.splitlines()
    assert all(f"{count} {reason}" in line for reason, count in expected.items())
    assert "1 .txt files (notes.TXT)" in str(rest.left_out)


def test_a_folder_of_nothing_that_is_read_says_what_it_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("atd.data.listing.endings", lambda: frozenset({".png"}))
    for index in range(3):
        (tmp_path / f"{index}.heic").touch()
    with pytest.raises(UserError, match=r"left out: 3 \.heic files.*pip install pillow-heif"):
        open_source(f"folder:{tmp_path}", split="all", data=DataConfig())


STRANGE = [b"caf\xe9.png", b"\xff\xfe.PNG", b"bell\x07\x1b[31m.png", b"new\nline.png", b"=1+1.png"]


def test_names_that_are_not_utf8_work_everywhere(tmp_path, capsys):
    for index, name in enumerate(STRANGE):
        for part in (b"a\xe9", b"b"):
            os.makedirs(os.fsencode(tmp_path) + b"/" + part, exist_ok=True)
            path = os.fsencode(tmp_path) + b"/" + part + b"/" + name
            with open(path, "wb") as file:
                Image.new("L", (8, 8), 10 * index + len(part)).save(file, "PNG")
    (tmp_path / "b" / os.fsdecode(b"broken\xe9.png")).touch()
    data = DataConfig(image_size=8, skip_corrupt=True)
    images, hashes = settle(
        open_source(f"folder:{tmp_path}", split="all", data=data), data, LoaderConfig()
    )
    assert len(hashes) == len(set(hashes)) == 10
    assert {os.fsencode(name).rpartition(b"/")[2] for name in images.names()} == set(STRANGE)
    said = capsys.readouterr().err
    assert r"broken\xe9.png" in said
    said.encode("utf-8")
    with pytest.raises(UserError, match=r"broken\\xe9\.png: not readable"):
        FilePixels([f"{tmp_path}/b/" + os.fsdecode(b"broken\xe9.png")], 1, 8).fetch([0])
    (tmp_path / "b" / os.fsdecode(b"broken\xe9.png")).unlink()
    words = [f"data.id=folder:{tmp_path}", "data.image_size=8", "data.val_fraction=0.2"]
    splits = load_splits(load(None, [*words, "data.outliers=bundled:capitals", "data.ood_limit=9"]))
    assert fingerprint_images(splits)["ID training"]["images"] > 0


def test_a_very_deep_folder_is_no_trouble(tmp_path):
    deep = tmp_path
    for _ in range(400):
        deep = deep / "d"
    os.makedirs(deep)
    Image.new("L", (8, 8)).save(deep / "a.png")
    assert len(list_images(tmp_path)) == 1
