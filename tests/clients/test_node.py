"""The Node client, installed as docs/clients.md says."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "examples" / "node"


@pytest.mark.slow
def test_it_says_what_atd_score_says(detector, exported, tmp_path, same, program, need):
    node, npm = program("node"), program("npm")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    need(int(version.strip("v\n").split(".")[0]) >= 20, f"Node 20, and this is {version.strip()}")
    client = tmp_path / "client"
    shutil.copytree(CLIENT, client, ignore=shutil.ignore_patterns("node_modules"))
    install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(install, cwd=client, capture_output=True, text=True, timeout=300)
    need(done.returncode == 0, f"the npm registry: {done.stderr.strip()[-200:]}")
    done = subprocess.run(
        [node, client / "score.mjs", exported, *(row["path"] for row in detector.rows)],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    same(rows, detector.rows, tolerance=1e-5)
