"""The scoring command on endless lists, on several processes, and before readers that leave."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys

import pytest
from score_command import table

from atd.data.remarks import Remarks
from atd.detectors.base import Detector
from atd.detectors.streaming import score_files


def test_a_reader_that_stops_early_is_no_fault(detector, images):
    command = (
        f"{sys.executable} -m atd.score {detector} {images[0]} | true; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
    assert done.stderr == ""


def test_names_are_read_as_they_come(monkeypatch, detector, images):
    """A list without an end is scored all the same, in order."""
    served = itertools.count()
    names = (str(images[0] / f"{next(served) % 70:02}.png") for _ in itertools.repeat(None))
    rows = score_files(Detector.from_pretrained(detector), names, Remarks())
    first = list(itertools.islice(rows, 1000))
    assert next(served) <= 1000 + 4 * 256
    assert [row.path for row in first[:70]] == [row.path for row in first[70:140]]


def together(processes, folder, names, stop):
    """What two processes give, run by each of them."""
    from atd.scoring.together import score_together

    detector = Detector.from_pretrained(folder)
    rows = score_together(
        processes,
        names if processes.is_main else [],
        lambda some, remarks: score_files(detector, some, remarks),
        Remarks(),
    )
    with contextlib.closing(rows):
        return [(row.path, row.score, row.error) for row in itertools.islice(rows, stop)]


@pytest.mark.parametrize("stop", [None, 3])
def test_processes_share_the_work_and_keep_the_order(pool, tmp_path, detector, images, stop):
    names = [str(images[0] / f"{index % 70:02}.png") for index in range(2100)]
    names[5] = names[1500] = str(tmp_path / "missing.png")
    first, second = pool(together, str(detector), names, stop)
    alone = list(score_files(Detector.from_pretrained(detector), names[:1100], Remarks()))
    assert second == []
    assert [path for path, _, _ in first] == names[:stop]
    for row, (_, value, error) in zip(alone, first, strict=False):
        assert (value, error) == (pytest.approx(row.score, abs=1e-6), row.error)


@pytest.mark.dist
def test_under_torchrun_one_process_writes(tmp_path, detector, images):
    output = tmp_path / "rows.csv"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "atd.score", str(detector), str(images[0]), "--output", str(output)]
    done = subprocess.run([*command, "--device=cpu"], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert [row["path"] for row in table(output.read_text())] == [
        str(path) for path in sorted(images[0].iterdir())
    ]
