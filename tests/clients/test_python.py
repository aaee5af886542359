"""The Python client, in an environment of its own that has no torch and no atd."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from deep_files import WRITERS
from PIL import Image

CLIENT = Path(__file__).parents[2] / "examples" / "python"


@pytest.fixture(scope="module")
def stranger(tmp_path_factory, need):
    """The Python of a fresh environment with the client's requirements and nothing else."""
    folder = tmp_path_factory.mktemp("stranger")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    done = subprocess.run(
        [*install, "--only-binary=:all:", "-r", str(CLIENT / "requirements.txt")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    need(done.returncode == 0, f"a package index: {done.stderr.strip()[-200:]}")
    return python


@pytest.mark.slow
def test_it_says_what_atd_score_says_without_torch(stranger, detector, exported, same):
    for module in ("torch", "atd"):
        found = subprocess.run([stranger, "-I", "-c", f"import {module}"], stderr=subprocess.PIPE)
        assert found.returncode == 1, module
        assert b"ModuleNotFoundError" in found.stderr
    paths = [row["path"] for row in detector.rows]
    done = subprocess.run(
        [stranger, "-I", CLIENT / "score.py", exported / "detector.onnx", *paths],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    same(rows, detector.rows, tolerance=1e-5)


@pytest.fixture
def client():
    """The client as a module, and a stand-in for its detector that calls all pictures ID."""
    pytest.importorskip("onnxruntime")
    spec = importlib.util.spec_from_file_location("score", CLIENT / "score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    class Lenient:
        threshold = 1.0

        def score(self, image):
            module.prepare(image, 3, 8)
            return 0.0

    return lambda path: next(module.rows(Lenient(), [str(path)]))


@pytest.mark.parametrize("kind", ["ICO", "ICNS", "DDS", "EPS"])
def test_what_atd_score_does_not_open_is_not_opened(client, tmp_path, kind):
    with (tmp_path / "a.png").open("wb") as file:
        Image.new("RGB", (32, 32)).save(file, kind)
    row = client(tmp_path / "a.png")
    assert row["is_ood"]
    assert "cannot identify image file" in row["error"]


@pytest.mark.parametrize("kind", WRITERS)
def test_colour_of_more_than_8_bits_is_refused(client, tmp_path, kind):
    pixels = np.random.default_rng(0).integers(0, 65536, (8, 8, 3)).astype(np.uint16)
    (tmp_path / "a.img").write_bytes(WRITERS[kind](pixels))
    assert "more than 8 bits" in client(tmp_path / "a.img")["error"]


@pytest.mark.parametrize("kind", ["PPM", "SGI", "JPEG2000", "PNG"])
def test_usual_pictures_are_scored(client, tmp_path, kind):
    Image.radial_gradient("L").convert("RGB").save(tmp_path / "a.img", kind)
    assert client(tmp_path / "a.img")["error"] is None
