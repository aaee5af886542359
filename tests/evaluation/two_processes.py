"""Run by `test_distributed`: scores a set on each process and saves what the process saw."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from toys import Convolutional, grey

from atd.evaluation.scoring import attack_scores
from atd.evaluation.tiers import Member
from atd.evaluation.worst import Attack


def main(count: int, folder: Path) -> None:
    accelerator = Accelerator(cpu=True)
    for attempt in range(2):  # the second time from the cache
        scored = attack_scores(
            Convolutional(),
            grey("any", 0, 256, count),
            Attack(members=(Member("pgd", 3), Member("square", 5)), epsilon=8 / 255),
            direction=1,
            batch_size=4,
            accelerator=accelerator,
            cache=folder / "cache",
        )
        np.savez(
            folder / f"{accelerator.process_index}-{attempt}.npz",
            clean=scored.clean,
            attacked=scored.attacked,
            examples=scored.example_attacked,
        )
    accelerator.end_training()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
