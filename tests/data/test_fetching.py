"""Batches of images, in this process and by workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from atd.data.fetching import batches
from atd.data.images import ImageSet


class Streaming:
    """Pixels that are not in memory: image i is filled with i."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def fetch(self, rows):
        return torch.stack([torch.full((1, 2, 2), row, dtype=torch.uint8) for row in rows])

    def name_of(self, row):
        return f"file{row}"


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_from_memory_and_workers(workers):
    plan = [torch.tensor([3, 1]), torch.tensor([2]), torch.tensor([0, 4, 4])]
    images = ImageSet.of("stream", Streaming(5), torch.arange(5), tuple("abcde"))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    got = list(batches(images, iter(plan), workers))
    assert torch.equal(torch.get_rng_state(), state)
    for (pixels, labels, indices), wanted in zip(got, plan, strict=True):
        assert torch.equal(indices, wanted)
        assert torch.equal(labels, wanted)
        assert torch.equal(pixels[:, 0, 0, 0], wanted.to(torch.uint8))


def test_batches_may_be_endless():
    def endless():
        while True:
            yield torch.tensor([1, 0])

    images = ImageSet.of("stream", Streaming(2))
    for workers in (0, 1):
        stream = batches(images, endless(), workers)
        assert all(next(stream)[0].shape == (2, 1, 2, 2) for _ in range(5))
        stream.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_in_one_line_and_the_command_ends(workers):
    """In a process of its own, which must also end: its worker is told to by the exit."""
    code = f"""
import torch
from atd.data.fetching import batches
from atd.data.images import ImageSet
from atd.errors import UserError, run_command

class Broken:
    def __len__(self):
        return 4
    def fetch(self, rows):
        raise UserError("a.png: gone")
    def name_of(self, row):
        return "a.png"

run_command(lambda: list(batches(ImageSet.of("b", Broken()), [torch.arange(2)], {workers})))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (2, "error: a.png: gone\n")
