"""Scores do not depend on the number of processes, nor on the size of a batch."""

from __future__ import annotations

from pathlib import Path

import pytest
from scored import assert_same
from toys import Convolutional, grey

from atd.attacks.suite import member
from atd.evaluation.jobs import ScoredSet
from atd.evaluation.scoring import attack_scores
from atd.evaluation.worst import Attack
from atd.training.processes import Processes

ATTACK = Attack(members=(member("pgd", 3), member("square", 5)), epsilon=8 / 255)


def score_twice(processes: Processes, count: int, cache: Path) -> list[ScoredSet]:
    """The second time from the cache."""
    return [
        attack_scores(
            Convolutional(),
            grey("any", 0, 256, count),
            ATTACK,
            direction=1,
            batch_size=4,
            accelerator=processes.accelerator,
            cache=cache,
        )
        for _ in range(2)
    ]


@pytest.mark.dist
@pytest.mark.parametrize("count", [1, 11])
def test_two_processes_find_the_same_bits_as_one(pool, tmp_path: Path, count) -> None:
    alone = attack_scores(Convolutional(), grey("any", 0, 256, count), ATTACK, direction=1)
    first, second = pool(score_twice, count, tmp_path)
    assert len(first) == len(second) == 2
    for found in first + second:
        assert_same(found, alone)
    assert len(list(tmp_path.iterdir())) == 1
