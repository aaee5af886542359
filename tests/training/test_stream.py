"""Streaming takes no more memory than a few batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: malloc keeps what an earlier test needed.
STREAMING = """
import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import torch

from atd.data.images import HeldPixels, ImageSet
from atd.training.stream import Stream


def own_mb():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024


torch.set_num_threads(1)
held = ImageSet.of("noise", HeldPixels(torch.zeros(256, 3, 64, 64, dtype=torch.uint8), ()))
# By a worker, as if they were decoded from files.
images = dataclasses.replace(held, pixels=SimpleNamespace(fetch=held.pixels.fetch))
stream = Stream(images, 64, slice(0, 64), 0, "memory", "crop-flip", workers=1)
used = [own_mb() for _ in stream.batches(0, 150, SimpleNamespace(device=torch.device("cpu")))]
print(max(used) - used[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own figures")
def test_many_batches_take_the_memory_of_a_few():
    # What malloc keeps of freed memory depends on timing; above this size it gives all of it back.
    given_back = os.environ | {"MALLOC_MMAP_THRESHOLD_": "100000"}
    done = subprocess.run(
        [sys.executable, "-c", STREAMING],
        capture_output=True,
        text=True,
        timeout=100,
        env=given_back,
    )
    assert done.returncode == 0, done.stderr
    # A batch has 0.75 MB as it comes and 3 MB as it is used: kept, they would take over 110.
    assert float(done.stdout) < 40
