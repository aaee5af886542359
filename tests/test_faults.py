"""The fault harness, in small: `python -m tests.faults` tries every fault many times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.dist
@pytest.mark.slow
def test_nothing_is_lost_and_nothing_hangs_when_ranks_are_killed(tmp_path):
    output = tmp_path / "faults.md"
    command = ["-m", "tests.faults", "--only", "kill", "--processes", 2, "--kills", 3]
    command += ["--seed", 1, "--work", tmp_path / "work", "--output", output]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trials = json.loads(output.with_suffix(".json").read_text())["trials"]
    assert len(trials) >= 3
    assert all(trial["same"] and trial["expected"] and not trial["hung"] for trial in trials)
    assert "| kill -9 of a rank | 2 |" in output.read_text()
