from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from atd.evaluation.scoring import attack_scores
from atd.evaluation.tiers import Member
from atd.evaluation.worst import Attack

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.mark.dist
@pytest.mark.parametrize("count", [1, 11])
def test_two_processes_find_what_one_finds(convolutional, images, tmp_path: Path, count) -> None:
    launch = ["torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    package = os.pathsep.join(map(str, (SCRIPT.parents[2], SCRIPT.parents[1])))
    environment = {**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *launch, str(SCRIPT), str(count), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    files = sorted(file.name for file in tmp_path.glob("*.npz"))
    assert files == ["0-0.npz", "0-1.npz", "1-0.npz", "1-1.npz"], done.stderr
    alone = attack_scores(
        convolutional,
        images("any", 0, 256, count),
        Attack(members=(Member("pgd", 3), Member("square", 5)), epsilon=8 / 255),
        direction=1,
    )
    for name in files:
        with np.load(tmp_path / name) as found:
            np.testing.assert_allclose(found["clean"], alone.clean, atol=1e-5)
            np.testing.assert_allclose(found["attacked"], alone.attacked, atol=1e-4)
            np.testing.assert_allclose(found["examples"], alone.example_attacked, atol=1e-4)
    assert len(list((tmp_path / "cache").iterdir())) == 1
