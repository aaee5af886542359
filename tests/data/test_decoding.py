"""Decoding: which files are opened at all, what they may cost, and what harmless damage does."""

from __future__ import annotations

import io
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from deep_png import png
from PIL import Image

from atd.config import DataConfig, LoaderConfig
from atd.data import budget
from atd.data.decoding import UnreadableImage, decode, endings, read_image
from atd.data.images import ImageSet
from atd.data.reading import FilePixels, settle
from atd.data.remarks import collecting


def refused(path):
    with pytest.raises(UnreadableImage) as caught:
        read_image(str(path), 3, 8)
    assert str(caught.value).count("\n") == 0
    return str(caught.value)


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "photo.eps"])
def test_no_program_is_started(tmp_path, name, monkeypatch):
    picture = tmp_path / name
    Image.new("RGB", (40, 40)).save(picture, "EPS")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    assert "of no format that is read here" in refused(picture)


@pytest.mark.parametrize("format", ["ICO", "PSD", "ICNS", "XPM"])
def test_only_formats_that_are_meant_are_tried(tmp_path, format):
    assert not any(ending in endings() for ending in (".ico", ".psd", ".icns", ".xpm", ".eps"))
    starts = {"PSD": b"8BPS", "XPM": b"/* XPM */"}
    picture = tmp_path / "a.png"
    if format in starts:
        picture.write_bytes(starts[format] + bytes(100))
    else:
        Image.new("RGB", (64, 64)).save(picture, format)
    assert "of no format" in refused(picture)


@pytest.mark.parametrize(
    "format", ["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF",
               "WEBP"],
)  # fmt: skip
def test_formats_that_people_have_are_read_whatever_the_name(tmp_path, format):
    if format not in Image.OPEN and format not in Image.SAVE:
        Image.init()
    picture = tmp_path / "picture.img"
    Image.new("RGB", (16, 16), (200, 100, 50)).save(picture, format)
    seen = read_image(str(picture), 3, 8).float().mean((1, 2))
    assert (seen - torch.tensor([200.0, 100.0, 50.0])).abs().max() < 6


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    picture = tmp_path / "a.heic"
    pillow_heif.from_pillow(Image.new("RGB", (64, 64), (200, 100, 50))).save(picture)
    assert ".heic" in endings()
    assert (read_image(str(picture), 3, 8)[0].float().mean() - 200).abs() < 6


@pytest.mark.parametrize(
    "kind", ["pipe", "device", "socket", "folder", "missing", "link to itself"]
)
def test_only_regular_files_are_opened(tmp_path, kind):
    path = tmp_path / "a.png"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "socket":
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
        case "folder":
            path.mkdir()
        case "link to itself":
            path.symlink_to(path)
    begin = time.monotonic()
    assert "a.png: not readable as an image (" in refused(path)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("name", ["n" * 300 + ".png", "nul\0.png", "", "a/" * 3000])
def test_impossible_names_are_refused(name):
    assert "not readable as an image" in refused(name)


def huge(kind, path):
    match kind:
        case "png":
            path.write_bytes(png(np.zeros((8, 8, 1)), header=(13400, 13400)))
        case "png colour":
            path.write_bytes(png(np.zeros((8, 8, 4)), header=(9000, 9000)))
        case "tiff":
            Image.new("F", (10, 10)).save(path, "TIFF")
            content = path.read_bytes()
            for tag in (256, 257):
                side = struct.pack("<HHII", tag, 4, 1, 10)
                assert side in content
                content = content.replace(side, struct.pack("<HHII", tag, 4, 1, 9000))
            path.write_bytes(content)
        case "gif":
            path.write_bytes(b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(50))
        case "bmp":
            header = struct.pack("<IiiHHIIiiII", 40, 30000, 30000, 1, 24, 0, 0, 0, 0, 0, 0)
            path.write_bytes(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header)
        case "progressive":
            Image.new("RGB", (8, 8)).save(path, "JPEG", progressive=True)
            content = bytearray(path.read_bytes())
            start = content.index(b"\xff\xc2") + 5
            content[start : start + 4] = struct.pack(">HH", 12000, 12000)
            path.write_bytes(content)


@pytest.mark.parametrize("kind", ["png", "png colour", "tiff", "gif", "bmp", "progressive"])
def test_an_image_beyond_the_budget_is_refused_at_once(tmp_path, kind):
    picture = tmp_path / "huge.img"
    huge(kind, picture)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.monotonic()
    refused(picture)
    assert time.monotonic() - begin < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_a_large_jpeg_is_decoded_at_a_fraction(tmp_path, monkeypatch):
    picture = tmp_path / "large.jpg"
    upright = Image.linear_gradient("L").resize((640, 640))
    upright.convert("RGB").save(picture)
    whole = read_image(str(picture), 3, 16)
    monkeypatch.setattr("atd.data.decoding.LIMIT", 4 * 640 * 640 - 1)
    assert (read_image(str(picture), 3, 16).int() - whole.int()).abs().max() <= 3


@pytest.mark.parametrize("magic", ["P6", "P5", "P2", "PF"])
def test_a_header_that_does_not_end_is_refused(tmp_path, magic):
    picture = tmp_path / "a.ppm"
    picture.write_bytes(magic.encode() + b"\n#" + b"x" * 5_000_000 + b"\n1 1\n255\n\0\0\0")
    begin = time.monotonic()
    assert "header does not end" in refused(picture)
    assert time.monotonic() - begin < 1


def test_a_usual_comment_does_no_harm(tmp_path):
    picture = tmp_path / "a.ppm"
    picture.write_bytes(b"P5 # made by a scanner\n# twice\n8 8\n255\n" + bytes(range(64)))
    assert read_image(str(picture), 1, 8).flatten().tolist() == list(range(64))


def test_large_images_wait_for_room(monkeypatch):
    monkeypatch.setattr(budget, "_room", budget._Room(threading.Semaphore, threading.Lock(), 4))
    inside, most, lock = [0], [0], threading.Lock()

    def take(units):
        with budget.room_for(units * 32 * 2**20):
            with lock:
                inside[0] += units
                most[0] = max(most[0], inside[0])
            time.sleep(0.005)
            with lock:
                inside[0] -= units

    threads = [threading.Thread(target=take, args=(1 + n % 4,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert 1 <= most[0] <= 4
    with budget.room_for(10 * 2**30):  # larger than all the room: alone
        pass


def exif_jpeg(damage):
    exif = Image.Exif()
    exif[0x0112] = 1
    exif[0x010F] = "Maker of cameras" * 4
    exif[0x8769] = {0x9003: "2020:01:01 00:00:00"}
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((32, 32)).save(buffer, "JPEG", exif=exif)
    content = bytearray(buffer.getvalue())
    start = content.index(b"Exif\0\0")
    length = struct.unpack(">H", content[start - 2 : start])[0]
    damage(content, start + 6, length - 8)
    return bytes(content)


@pytest.mark.parametrize("seed", range(25))
def test_pixels_survive_harmless_damage_in_exif(tmp_path, seed):
    rng = np.random.default_rng(seed)

    def damage(content, start, length):
        for place in rng.integers(start, start + length, 1 + seed % 12):
            content[place] = rng.integers(256)
        if seed % 5 == 0:
            content[start : start + 8] = b"\0garbage"

    picture = tmp_path / "a.jpg"
    picture.write_bytes(exif_jpeg(damage))
    with collecting():
        seen = read_image(str(picture), 3, 32)
    clean = decode(Image.open(io.BytesIO(exif_jpeg(lambda *_: None))), 3, 32)
    turned = [clean.rot90(k, (1, 2)) for k in range(4)]
    turned += [picture.flip(2) for picture in turned]
    assert any(torch.equal(seen, one) for one in turned)


def damaged_tiffs(folder, count):
    rng = np.random.default_rng(0)
    for index in range(count):
        file = folder / f"{index}.tif"
        pixels = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(
            file, compression="tiff_lzw" if index % 2 else None, software="x" * 39
        )
        content = bytearray(file.read_bytes())
        entry = content.index(struct.pack("<HHI", 305, 2, 40))
        content[entry + 4 : entry + 8] = struct.pack("<I", 2**20)
        file.write_bytes(content)


def test_damaged_tags_are_one_line(tmp_path, capfd):
    damaged_tiffs(tmp_path, 12)
    names = sorted(str(path) for path in tmp_path.iterdir())
    settle(ImageSet.of("scans", FilePixels(names, 3, 8)), DataConfig(image_size=8), LoaderConfig())
    said = capfd.readouterr().err  # of the whole process: libtiff writes there itself
    assert said.count("\n") == 1
    assert "scans: 12 image(s) with damaged tags, e.g." in said


def test_damaged_tags_are_one_line_from_processes_too(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("atd.data.spreading._MANY", 1)
    monkeypatch.setattr("atd.data.spreading.cores", lambda: 2)
    test_damaged_tags_are_one_line(tmp_path, capfd)


def test_warnings_of_others_are_not_swallowed():
    with pytest.warns(UserWarning, match="mine"), collecting() as remarks:
        warnings.warn("mine", stacklevel=1)
    assert remarks.damaged == 0


def test_memory_of_a_hostile_folder_stays_bounded(tmp_path):
    """All that the readers hold at once, measured from outside."""
    for index in range(6):
        Image.new("RGB", (3000, 3000)).save(tmp_path / f"{index}.png")
    code = f"""if True:
        import os, resource, threading
        from atd.data import budget, spreading
        from atd.data.decoding import read_image
        budget._room = budget._Room(threading.Semaphore, threading.Lock(), 2)
        spreading.cores = lambda: 6
        spreading._CHUNK = 1
        read_image("{tmp_path}/0.png", 3, 8)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        def work(piece):
            for index in piece:
                read_image(f"{tmp_path}/{{index}}.png", 3, 8)
        list(spreading.spread(work, 6, processes=False))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert int(done.stdout) < 60 * 1024, done.stderr
