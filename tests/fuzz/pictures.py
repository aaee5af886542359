"""Image files of every format that Pillow writes here, damaged; and files that are none."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

from atd.commands import score
from atd.detectors.base import Detector
from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig
from atd.errors import UserError
from tests.fuzz.mutations import TEXTS, damaged_bytes, damaged_text

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "HSV", "LAB")
FORMATS = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "WEBP": ".webp",
    "PPM": ".ppm",
    "TGA": ".tga",
    "ICO": ".ico",
    "ICNS": ".icns",
    "PCX": ".pcx",
    "SGI": ".sgi",
    "DDS": ".dds",
    "IM": ".im",
    "MSP": ".msp",
    "XBM": ".xbm",
    "QOI": ".qoi",
    "JPEG2000": ".jp2",
    "AVIF": ".avif",
    "PDF": ".pdf",
    "EPS": ".eps",
    "SPIDER": ".spi",
    "BLP": ".blp",
    "MPO": ".mpo",
}
_STRANGE = {
    "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage",
    "postscript.jpg": b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 99999 99999\n%%EndComments\nquit\n",
    "vector.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///canary'/></svg>",
    "stub.wmf": b"\xd7\xcd\xc6\x9a" + bytes(40),
    "stub.grib": b"GRIB" + bytes(40),
    "list.txt": b"/canary\n",
    "empty.png": b"",
    "page.png": b"<html><script>alert(1)</script></html>",
    "flash.fli": b"\x00\x00\x00\x00\x11\xaf" + bytes(130),
}


@cache
def _pixels() -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)


@cache
def honest(kind: str, mode: str) -> bytes | None:
    """A small picture of a format and a mode, or None where Pillow does not write it."""
    image = Image.fromarray(_pixels())
    try:
        if mode == "I;16":
            image = Image.fromarray(_pixels()[..., 0].astype(np.uint16) * 257)
        elif mode == "LAB":
            return None
        else:
            image = image.convert(mode)
        buffer = io.BytesIO()
        extra = {"save_all": True, "append_images": [image]} if kind in ("GIF", "MPO") else {}
        if kind in ("JPEG", "TIFF", "PNG", "WEBP"):
            exif = Image.Exif()
            exif[0x0112], exif[0x010E] = 6, "canary"
            extra["exif"] = exif.tobytes()
        image.save(buffer, format=kind, **extra)
    except (OSError, ValueError, KeyError, SystemError, TypeError):
        return None
    return buffer.getvalue()


@cache
def _samples() -> list[tuple[str, bytes]]:
    return [
        (ending, content)
        for kind, ending in FORMATS.items()
        for mode in MODES
        if (content := honest(kind, mode)) is not None
    ]


@cache
def _detector() -> Detector:
    torch.manual_seed(0)
    config = DetectorConfig(
        kind="atd",
        backbone=None,
        options={},
        image_size=8,
        channels=3,
        classes=[],
        threshold=0.0,
    )
    return build_detector(config).eval()


def an_image(rng: Random, scratch: Path) -> Callable[[], object]:
    """An image file, scored by path as `atd.score` and the Python interface do."""
    name, content = rng.choice(_samples())
    name = f"image{name}"
    match rng.randrange(10):
        case 0:
            name, content = rng.choice(list(_STRANGE.items()))
        case 1:
            content = _bomb(rng)
            name = "bomb.png"
        case 2:
            name = "image" + rng.choice(list(FORMATS.values()))
            content = damaged_bytes(rng, content)
        case 3:
            content = _half(rng, content)
        case _:
            content = damaged_bytes(rng, content)
    file = scratch / name
    file.write_bytes(content)
    detector = _detector()

    def case() -> object:
        scores = detector.score([file])
        assert scores.shape == (1,)
        assert scores.isfinite().all()
        return "scored"

    return case


def _half(rng: Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def _bomb(rng: Random) -> bytes:
    """A PNG of few bytes whose header promises much."""
    width, height = (rng.choice((1, 8, 4000, 20_000, 2**31 - 1)) for _ in range(2))
    depth, colour = rng.choice(((1, 0), (8, 2), (16, 0), (16, 6), (8, 3), (9, 9)))
    text = rng.choice((b"", zlib.compress(bytes(2**22)), b"x" * 1000))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, rng.choice((0, 1)))),
        (b"zTXt", b"k\0\0" + text),
        (b"PLTE", bytes(6)),
        (b"IDAT", zlib.compress(bytes(rng.choice((0, 100, 2**20))))),
        (b"IEND", b""),
    ]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def scored_names(rng: Random, scratch: Path) -> Callable[[], object]:
    """`atd-score` on files with hostile names and contents: every one has its harmless row."""
    folder = scratch / "named"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = {_file_name(rng, index) for index in range(rng.randint(1, 4))}
    for name in names:
        content = rng.choice(_samples())[1]
        damaged = damaged_bytes(rng, content) if rng.random() < 0.5 else content
        (folder / name).write_bytes(damaged)
    output, form = scratch / "scores.txt", rng.choice(("csv", "jsonl"))
    words = [str(_saved(scratch)), *(str(folder / name) for name in names)]
    options = ["--format", form, "--output", str(output)]

    def case() -> object:
        with contextlib.redirect_stderr(io.StringIO()) as wrong:
            try:
                score.main([*words, *options])
            except SystemExit as stop:
                if stop.code != 2:
                    raise
                raise UserError(wrong.getvalue().strip().split("\n")[-1]) from None
        rows = _rows(output, form)
        assert len(rows) == len(names), "a row for each image"
        for row in rows:
            assert str(row["is_ood"]).lower() == "true" or not row["error"], "fails open"
            if form == "csv":
                assert not any(cell.startswith(tuple("=+-@\t\r")) for cell in _words(row)), (
                    "formula"
                )
                assert all(cell.isprintable() for cell in row.values()), "control characters"
        return len(rows)

    return case


def _file_name(rng: Random, index: int) -> str:
    text = rng.choice((*TEXTS, damaged_text(rng, "photo")))
    text = text.replace("/", "").replace("\0", "").encode("utf-8", "surrogateescape")[:200]
    return (
        rng.choice(("", "=", "-", "\n")) + text.decode("utf-8", "surrogateescape") + f"{index}.png"
    )


def _words(row: dict[str, str]) -> list[str]:
    return [row["path"], row["error"]]


def _rows(output: Path, form: str) -> list[dict[str, str]]:
    if form == "jsonl":
        lines = output.read_text(encoding="utf-8").splitlines()
        return [{"error": "", **json.loads(line)} for line in lines]
    with output.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@cache
def _saved(scratch: Path) -> Path:
    folder = scratch / "scorer"
    if not folder.exists():
        _detector().save_pretrained(folder)
    return folder
