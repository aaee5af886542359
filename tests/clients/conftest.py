"""What clients in other languages are tried with: pictures, and what `atd.score` says of them."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from atd.commands import score
from atd.detectors.build import build_detector
from atd.detectors.calibration import CalibrationSample
from atd.detectors.config import DetectorConfig
from atd.detectors.export import export_detector

SIZE = 32
READABLE = ("noise", "grey", "tiny", "photo", "turned", "tall", "plain")


@pytest.fixture(scope="session")
def need():
    """`need(found, what)` skips where something is missing, and fails in CI, which has it all."""

    def check(found, what):
        if not found:
            missing = f"needs {what}"
            if os.environ.get("ATD_CLIENTS") == "required":
                pytest.fail(missing)
            pytest.skip(missing)

    return check


@pytest.fixture(scope="session")
def program(need):
    """The path of a program, `program("node")`."""

    def find(*names):
        found = next(filter(None, map(shutil.which, names)), None)
        need(found, f"{names[0]} on the PATH")
        return found

    return find


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of pictures of many kinds, some of them damaged."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (48, 64, 4), dtype=np.uint8)
    rows, columns = np.mgrid[0:900, 0:1200]
    ramp = np.stack([rows % 256, columns % 256, (rows + columns) % 256], -1).astype(np.uint8)
    photo = Image.fromarray(ramp).resize((1200, 900))
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(noise[:SIZE, :SIZE, :3]).save(folder / "exact size.png")
    Image.fromarray(noise[..., :3]).save(folder / "noise.png")
    Image.fromarray(noise).save(folder / "transparent.png")
    Image.fromarray(noise[..., 0]).save(folder / "grey.png")
    Image.fromarray(noise[:9, :17, :3]).save(folder / "tiny.png")
    photo.save(folder / "photo.jpg", quality=90)
    photo.save(folder / "turned.jpg", quality=90, exif=turned)
    photo.resize((120, 90)).save(folder / "turned.png", exif=turned)
    photo.save(folder / "progressive.jpg", quality=80, progressive=True)
    photo.quantize(16).save(folder / "see-through palette.png", transparency=3)
    photo.crop((0, 0, 200, 900)).save(folder / "tall.webp", quality=90)
    photo.quantize(64).save(folder / "palette.gif")
    Image.new("RGB", (70, 50), "navy").save(folder / "plain.png")
    whole = (folder / "photo.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[:9000])
    small = io.BytesIO()  # a thumbnail, whose end is not that of the picture
    photo.resize((16, 12)).save(small, "JPEG")
    inside = b"JFXX\0\x10" + small.getvalue()
    segment = b"\xff\xe0" + (len(inside) + 2).to_bytes(2) + inside
    (folder / "broken, with a thumbnail.jpg").write_bytes(whole[:20] + segment + whole[20:9000])
    (folder / "broken.png").write_bytes((folder / "noise.png").read_bytes()[:5000])
    (folder / "=formula, no picture.png").write_text("no picture")
    with (folder / "icon, named otherwise.png").open("wb") as file:
        photo.resize((64, 64)).save(file, "ICO")
    with (folder / "PostScript, named otherwise.jpg").open("wb") as file:
        photo.save(file, "EPS")
    inner = folder / "inner"
    inner.mkdir()
    photo.rotate(90, expand=True).save(inner / "first.jpg")
    (inner / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture(scope="session")
def detector(pictures, tmp_path_factory):
    """An untrained detector's `folder`, and the `rows` that `atd.score` makes of the pictures."""
    torch.manual_seed(0)
    config = DetectorConfig(
        kind="atd",
        backbone={"width": 4, "features": "multi"},
        classes=["cat", "dog"],
        image_size=SIZE,
        channels=3,
        options={"normalisation": "layer"},
        threshold_note="accepts half of the pictures of a test",
    )
    made = build_detector(config).eval()
    for name, buffer in made.named_buffers():
        if name.endswith(("running_mean", "feature_mean")):
            buffer.normal_(std=0.3)
    readable = [file for file in sorted(pictures.glob("*.*")) if file.stem in READABLE]
    threshold = made.score(list(map(str, readable))).sort().values[len(readable) // 2] + 1e-3
    made.config = dataclasses.replace(made.config, threshold=threshold.item())
    made.calibration = CalibrationSample(threshold + torch.linspace(-0.1, 0.01, 50))
    root = tmp_path_factory.mktemp("client")
    made.save_pretrained(root / "detector")
    words = [str(root / "detector"), str(pictures), "--format", "jsonl"]
    score.main([*words, "--output", str(root / "rows.jsonl")])
    rows = [json.loads(line) for line in (root / "rows.jsonl").read_text().splitlines()]
    return SimpleNamespace(folder=root / "detector", rows=rows)


@pytest.fixture(scope="session")
def exported(detector):
    """The folder of an export to ONNX."""
    pytest.importorskip("onnxscript", reason="ONNX is optional: requirements-dev.txt")
    return export_detector(detector.folder, detector.folder.parent / "export", ["onnx"])


@pytest.fixture(scope="session")
def same():
    """Compares a client's rows with those of `atd.score`."""

    def check(found, expected, tolerance):
        assert [row["path"] for row in found] == [row["path"] for row in expected]
        scores = [row["score"] for row in expected if row["score"] is not None]
        assert np.std(scores) > 1000 * tolerance, "the pictures' scores do not differ"
        assert {row["is_ood"] for row in expected} == {True, False}
        for row, wanted in zip(found, expected, strict=True):
            assert row["score"] == (
                wanted["score"] and pytest.approx(wanted["score"], abs=tolerance)
            )
            assert row["is_ood"] == wanted["is_ood"], row
            assert bool(row["error"]) == bool(wanted["error"]), row

    return check
