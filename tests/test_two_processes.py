"""The number of processes changes nothing but speed: a whole run, from nothing to its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import atd
from atd.config import load
from atd.detectors.base import Detector
from atd.errors import UserError
from atd.pipeline import Run
from atd.training.processes import Processes

PACKAGE = Path(atd.__file__).parents[1]


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_give_the_detector_and_the_report_of_one(tiny_run, tiny_yaml, tmp_path):
    launch = [
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        "-m",
        "atd.commands.train",
    ]
    done = subprocess.run(
        [sys.executable, "-m", *launch, "--config", str(tiny_yaml), f"run.dir={tmp_path}"],
        env={**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report:") == 1
    one, two = (
        Detector.from_pretrained(folder / "detector").state_dict()
        for folder in (tiny_run.folder, tmp_path)
    )
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-4, msg=name)
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    for name, numbers in tiny_run.results["mean"].items():
        assert results["mean"][name] == pytest.approx(numbers, abs=0.02)
    logs = [(folder / "stats.jsonl").read_text() for folder in (tiny_run.folder, tmp_path)]
    assert logs[0].count("\n") == logs[1].count("\n")


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_judge_a_detector_to_the_same_bits_as_one(tiny_run, tmp_path):
    found = []
    for count, batch_size in ((1, 256), (2, 7)):
        output = tmp_path / str(count)
        launch = ["torch.distributed.run", f"--nproc-per-node={count}", "--standalone"]
        words = [str(tiny_run.folder / "detector"), "evaluate.tier=paper", "evaluate.steps=12"]
        words += [f"evaluate.batch_size={batch_size}", "--output", str(output)]
        done = subprocess.run(
            [sys.executable, "-m", *launch, "-m", "atd.commands.evaluate", *words],
            env={**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        results = json.loads((output / "results.json").read_text())
        with np.load(output / "scores.npz") as scores:
            found.append((results, dict(scores)))
    (one, scores), (two, others) = found
    assert one["provenance"].pop("config_sha256") != two["provenance"].pop("config_sha256")
    del one["provenance"], two["provenance"]
    assert two == one
    assert others.keys() == scores.keys()
    for name, values in scores.items():
        np.testing.assert_array_equal(others[name], values, err_msg=name)


@pytest.fixture
def start(tiny_yaml, tmp_path):
    def make(folder, *options, count=1):
        processes = Processes("cpu")
        processes.count = count  # as the first of so many sees it, with whom all others agree
        processes.agree = lambda value: value
        return Run(load(tiny_yaml, [f"run.dir={tmp_path / folder}", *options]), processes)

    return make


@pytest.mark.parametrize("options", [[], ["atd.finetune=true"]])
def test_a_small_device_is_given_parts_of_a_batch_and_trains_the_same(start, tiny_run, options):
    weights = f"backbone.weights={tiny_run.folder / 'detector' / 'model.safetensors'}"
    whole, _, _ = start("whole", weights, *options).train()
    parts, _, _ = start("parts", weights, "run.device_batch=4", *options).train()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("count", "option", "message"),
    [
        (3, "run.seed=0", r"pretrain.batch_size=32 does not divide among 3 .* a multiple of 3"),
        (5, "pretrain.batch_size=99", r"digits has only 72 images.*use pretrain.batch_size=70"),
        (2, "run.device_batch=6", r"16 images .* pretrain.batch_size .*use run.device_batch=4"),
        (
            2,
            "run.device_batch=8",
            r"batch normalisation.*ghost_batch=8 .*start 4 processes",
        ),
    ],
)
def test_a_batch_that_cannot_be_divided_is_the_users_to_change(start, count, option, message):
    with pytest.raises(UserError, match=message) as caught:
        start("refused", option, count=count).train()
    assert "\n" not in str(caught.value)
