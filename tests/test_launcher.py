"""What a launcher was asked for in vain is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atd.errors import UserError
from atd.launcher import ignored_options, refuse_unknown_engines

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ACCELERATE_MIXED_PRECISION", "bf16", ["--mixed_precision=bf16", "run.precision"]),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", ["--dynamo_backend", "run.compile"]),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", ["steps=4", "run.device_batch"]),
        ("ACCELERATE_GRADIENT_CLIPPING", "1.0", ["--gradient_clipping=1.0"]),
    ],
)
def test_what_nothing_follows_is_told(name, value, words):
    (line,) = ignored_options({name: value, "RANK": "0"})
    assert all(word in line for word in words)


def test_what_a_launcher_sets_of_its_own_accord_is_not_told():
    plain = {
        "ACCELERATE_MIXED_PRECISION": "no",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
        "ACCELERATE_USE_FSDP": "false",
    }
    assert ignored_options(plain) == []
    refuse_unknown_engines(plain)


@pytest.mark.parametrize("engine", ["DEEPSPEED", "FSDP", "MEGATRON_LM"])
def test_engines_are_refused(engine):
    with pytest.raises(UserError, match=f"--use_{engine.lower()}: .* leave it out"):
        refuse_unknown_engines({f"ACCELERATE_USE_{engine}": "true"})


def test_it_is_told_under_the_launcher_itself(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from atd.training.processes import Processes; Processes('cpu').close()")
    options = ["--cpu", "--num_processes", "1", "--mixed_precision", "bf16"]
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *options, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "note: accelerate launch --mixed_precision=bf16 is ignored" in done.stderr
