"""The bar of an evaluation moves with the steps of attacks, and ends where it was to end."""

from __future__ import annotations

import re

import pytest
import torch
from scored import EPSILON

from atd.attacks.suite import member
from atd.evaluation.jobs import Job
from atd.evaluation.progress import progress_bar
from atd.evaluation.scoring import attack_sets
from atd.evaluation.subject import Subject
from atd.evaluation.worst import Attack

KINDS = ["pgd", "apgd", "square", "momentum"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_is_told(convolutional, images, kind):
    told: list[int] = []
    attack = Attack(members=(member(kind, 10),), epsilon=EPSILON)
    jobs = [Job(images("any", 0, 256, 6), 1, attack), Job(images("more", 0, 256, 4), -1, attack)]
    attack_sets(convolutional, jobs, batch_size=10, tick=told.append)
    assert sum(told) == attack.passes * 10
    assert len([count for count in told if count]) >= 10
    assert max(told) <= 2 * 10


def test_what_early_stops_save_counts_as_done(convolutional, images):
    told: list[int] = []
    attack = Attack(members=(member("pgd", 40),), epsilon=EPSILON, stop=-1e9)
    attack_sets(convolutional, [Job(images("any", 0, 256, 6), 1, attack)], tick=told.append)
    assert sum(told) == attack.passes * 6


def test_a_subject_counts_forward_and_backward_passes_and_draws(convolutional):
    told: list[int] = []
    subject = Subject(convolutional, 3, passed=told.append)
    image = torch.rand(5, *convolutional_shape(convolutional))
    with torch.no_grad():
        subject.score(image)
    subject.score(image.requires_grad_(True))
    assert told == [15, 30]


def convolutional_shape(detector):
    return detector.config.channels, detector.config.image_size, detector.config.image_size


def test_the_bar_tells_what_is_left_within_seconds(capsys, monkeypatch):
    monkeypatch.setattr("tqdm.std.time", iter(x * 1.0 for x in range(10_000)).__next__)
    with progress_bar("attacking x", 1000, show=True) as bar:
        for _ in range(8):
            bar(10)
    frames = capsys.readouterr().err.split("\r")
    told = [frame for frame in frames if re.search(r"\(about \d\d:\d\d left\)", frame)]
    assert len(told) >= 7
