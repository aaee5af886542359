"""Sets that are scored together are scored as each alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from scored import EPSILON, Stopping, assert_same
from torch import Tensor
from toys import Toy

from atd.attacks.suite import member
from atd.evaluation.jobs import Job
from atd.evaluation.scoring import attack_scores, attack_sets
from atd.evaluation.worst import Attack


def jobs(images, **attack) -> list[Job]:
    chosen = Attack(**{"members": (member("pgd", 5),), "epsilon": EPSILON} | attack)
    sets = [images("a", 0, 256, 7), images("b", 0, 256, 4, seed=1), images("c", 90, 200, 9, seed=2)]
    stops = (None, -0.2, 0.1)
    return [
        Job(some, direction, dataclasses.replace(chosen, stop=stop))
        for some, direction, stop in zip(sets, (1, -1, 1), stops, strict=True)
    ]


@pytest.mark.parametrize("batch_size", [5, 8, 64])
def test_sets_scored_together_are_those_scored_alone(convolutional, images, batch_size) -> None:
    together = attack_sets(convolutional, jobs(images), batch_size=batch_size)
    for job, found in zip(jobs(images), together, strict=True):
        alone = attack_scores(convolutional, job.images, job.attack, direction=job.direction)
        assert_same(found, alone)


@pytest.mark.parametrize("calls", [4, 10, 16])
def test_sets_scored_together_go_on_where_they_stopped(
    convolutional, images, tmp_path: Path, calls
) -> None:
    whole = attack_sets(convolutional, jobs(images))
    options = {"batch_size": 5, "cache": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        attack_sets(Stopping(convolutional, calls), jobs(images), **options)
    resumed = attack_sets(Stopping(convolutional, 1000), jobs(images), **options)
    for one, two in zip(whole, resumed, strict=True):
        assert_same(two, one)
    # Each set is found again alone.
    counting = Stopping(convolutional, 0)
    for job, found in zip(jobs(images), resumed, strict=True):
        assert_same(attack_sets(counting, [job], cache=tmp_path)[0], found)


def test_sets_scored_together_need_one_attack(convolutional, images) -> None:
    first, second, _ = jobs(images)
    other = dataclasses.replace(second.attack, epsilon=0.5)
    with pytest.raises(ValueError, match="stop and targets only"):
        attack_sets(convolutional, [first, dataclasses.replace(second, attack=other)])


def test_feature_targets_are_those_of_each_side(images) -> None:
    class Featured(Toy):
        def features(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

        def forward(self, images: Tensor) -> Tensor:
            return self.features(images).detach().sum(1)

    sets = [images("grey", 100, 150, 5), images("grey too", 100, 150, 6, seed=1)]
    both = []
    for some, direction, shade in zip(sets, (1, -1), (1.0, 0.0), strict=True):
        targets = torch.full((2, 3, 8, 8), shade)
        attack = Attack(members=(member("features", 20),), epsilon=EPSILON, targets=targets)
        both.append(Job(some, direction, attack))
    raised, lowered = attack_sets(Featured(), both)
    assert (raised.attacked - raised.clean > 2 * EPSILON).all()
    assert (lowered.clean - lowered.attacked > 2 * EPSILON).all()
