from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from atd.evaluation.scoring import attack_scores


def _on_two_processes(detector: nn.Module, images: object, folder: Path) -> None:
    from accelerate import Accelerator

    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    for attempt in range(2):  # the second time from the cache
        scored = attack_scores(
            detector,
            images,
            direction=1,
            epsilon=8 / 255,
            steps=3,
            batch_size=4,
            accelerator=accelerator,
            cache=folder / "cache",
            progress=False,
        )
        np.savez(
            folder / f"{accelerator.process_index}-{attempt}.npz",
            clean=scored.clean,
            attacked=scored.attacked,
            examples=scored.example_attacked,
        )


@pytest.mark.parametrize("count", [1, 11])
def test_two_processes_find_what_one_finds(convolutional, images, tmp_path: Path, count) -> None:
    from accelerate import debug_launcher

    sample = images("any", 0, 256, count)
    debug_launcher(_on_two_processes, (convolutional, sample, tmp_path), num_processes=2)
    alone = attack_scores(
        convolutional, sample, direction=1, epsilon=8 / 255, steps=3, progress=False
    )
    for rank in range(2):
        for attempt in range(2):
            with np.load(tmp_path / f"{rank}-{attempt}.npz") as found:
                np.testing.assert_allclose(found["clean"], alone.clean, atol=1e-5)
                np.testing.assert_allclose(found["attacked"], alone.attacked, atol=1e-4)
                np.testing.assert_allclose(found["examples"], alone.example_attacked, atol=1e-4)
    assert len(list((tmp_path / "cache").iterdir())) == 1
