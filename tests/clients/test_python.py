"""The Python client, in an environment of its own that has no torch and no atd."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

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
