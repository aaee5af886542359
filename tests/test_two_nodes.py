"""Two machines, as two launchers on one: the same detector, also when a process dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import atd

PACKAGE = Path(atd.__file__).parents[1]
QUICK = ["evaluate.limit=4", "evaluate.baselines=[]", "run.save_minutes=0"]


def launch(tiny_yaml, folder, *options):
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "tests.faults.rank"]
    return subprocess.Popen(
        [*command, "--config", str(tiny_yaml), f"run.dir={folder}", *QUICK],
        cwd=PACKAGE,
        # The store of torchrun keeps addresses of processes that have died (pytorch #135712).
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends_well(*launchers):
    for launcher in launchers:
        errors = launcher.communicate(timeout=150)[1]
        assert launcher.returncode == 0, errors


def weights(folder):
    return (folder / "detector" / "model.safetensors").read_bytes()


def two_machines(tiny_yaml, folder):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    where = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--max-restarts=3"]
    where.append(f"--rdzv-endpoint=127.0.0.1:{port}")
    return [launch(tiny_yaml, folder, *where) for _ in range(2)]


def kill_worker(launcher):
    agent = launcher.pid
    (worker,) = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the process in /proc")
def test_two_machines_one_of_which_fails_give_the_detector_of_one(tiny_yaml, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    ends_well(launch(tiny_yaml, one, "--standalone", "--nproc-per-node=2"))
    launchers = two_machines(tiny_yaml, two)
    since = time.monotonic()
    while not (two / "stats.jsonl").exists() and time.monotonic() < since + 60:
        time.sleep(0.05)
    kill_worker(launchers[1])
    ends_well(*launchers)
    assert weights(two) == weights(one)
