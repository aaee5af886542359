"""The number of processes changes nothing but speed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import atd
from atd.config import load
from atd.models.detector import Detector
from atd.pipeline import Run
from atd.training.processes import Processes

PACKAGE = Path(atd.__file__).parents[1]


@pytest.mark.dist
def test_two_processes_train_what_one_trains(tiny_run, tiny_yaml, tmp_path):
    """Batch normalisation in the backbone sees half batches, hence the ready-made weights."""
    weights = tiny_run.folder / "detector" / "model.safetensors"
    options = [f"backbone.weights={weights}", "evaluate.limit=10", "evaluate.baselines=[]"]
    options += ["run.seed=1"]
    launch = ["torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "atd.train"]
    two = ["--config", str(tiny_yaml), f"run.dir={tmp_path / 'two'}", *options]
    done = subprocess.run(
        [sys.executable, "-m", *launch, *two],
        env={**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report:") == 1
    pair = Detector.from_pretrained(tmp_path / "two" / "detector").state_dict()
    single, _, _ = Run(
        load(tiny_yaml, [f"run.dir={tmp_path / 'one'}", *options]), Processes("cpu")
    ).train()
    for name, value in single.state_dict().items():
        torch.testing.assert_close(pair[name], value, rtol=1e-4, atol=1e-5, msg=name)
    moved = single.state_dict()["discriminator.0.weight"]
    start = Detector.from_pretrained(tiny_run.folder / "detector").state_dict()
    assert not torch.allclose(moved, start["discriminator.0.weight"])
    logs = [(tmp_path / name / "stats.jsonl").read_text() for name in ("one", "two")]
    assert logs[0].count("\n") == logs[1].count("\n")
