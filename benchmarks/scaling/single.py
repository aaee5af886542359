"""Measurements of whole processes: start-up, memory while streaming, decoding."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from atd.config import load
from atd.data.images import ImageSet
from atd.data.reading import FilePixels
from atd.data.splits import load_splits
from atd.training.processes import Processes
from atd.training.stream import Stream
from benchmarks.scaling.team import ROOT, torchrun

__all__ = ["decode_rate", "startup", "streaming_memory"]

_LIMIT = 120.0
_PIXELS = 64
_BATCH = 64
_PHOTO = (500, 375)
"""Size of a typical ImageNet photograph."""


def startup(processes: int) -> float:
    """Seconds from the command to the end of the first training step of the default config."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        log = Path(folder) / "run" / "stats.jsonl"
        options = ("atd.commands.train", f"run.dir={log.parent}", "run.device=cpu")
        since = time.perf_counter()
        launcher = torchrun(processes, *options, output=output)
        while not _has_line(log):
            if launcher.poll() is not None or time.perf_counter() - since > _LIMIT:
                output.seek(0)
                raise RuntimeError(f"the training did not start: {output.read().decode()}")
            time.sleep(0.02)
        seconds = time.perf_counter() - since
        launcher.send_signal(signal.SIGTERM)
        launcher.wait(_LIMIT)
    return seconds


def _has_line(log: Path) -> bool:
    return log.exists() and log.stat().st_size > 0


def streaming_memory(count: int, streamed: int) -> dict[str, float]:
    """Memory of a process that reads and streams a folder of images from disk.

    Args:
        count: Images in the folder.
        streamed: Images that are streamed, of one epoch or many: what malloc keeps for reuse
            grows with the first of them, however large the folder is.

    Returns:
        `images`, `decoded_mb` that they would take in memory, peaks in MB: `process_mb` and its
        data worker's `worker_mb` (pages that it shares with the process included), and `held_mb`
        at the end (Linux with glibc only, elsewhere the peak).
    """
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            file = Path(folder) / str(number % 10) / f"{number:06d}.jpg"
            file.parent.mkdir(exist_ok=True)
            _picture(number, (_PIXELS, _PIXELS)).save(file)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.scaling.single", folder, str(streamed)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            check=True,
        )
    found = json.loads(done.stdout.splitlines()[-1])
    return {"images": count, "decoded_mb": count * 3 * _PIXELS**2 / 2**20, **found}


def _picture(number: int, size: tuple[int, int]) -> Image.Image:
    """Smooth colours, no two alike; as many bytes as a photograph of that size, about."""
    grid = tuple(max(8, side // 4) for side in size)
    generator = torch.Generator().manual_seed(number)
    noise = torch.randint(256, (grid[1], grid[0], 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(noise.numpy()).resize(size, Image.Resampling.BICUBIC)


def _stream(folder: str, streamed: int) -> ImageSet:
    """Reads a folder as a run does, then streams so many of its training images."""
    config = load(
        None,
        [
            f"data.id=folder:{folder}",
            "data.outliers=bundled:capitals",
            "data.ood_test=[]",
            "data.near_test=[]",
            f"data.image_size={_PIXELS}",
            "data.channels=3",
            "loader.memory_mb=0",
            "loader.workers=1",
        ],
    )
    images = load_splits(config).id_train
    stream = Stream(images, _BATCH, slice(0, _BATCH), 0, "memory", "crop-flip", workers=1)
    for _ in stream.batches(0, -(-streamed // _BATCH), Processes("cpu")):
        pass
    return images


def decode_rate(seconds: float) -> float:
    """Images per second that one core decodes from photographs of 500 x 375 to 224 x 224."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{number}.jpg" for number in range(16)]
        for number, path in enumerate(paths):
            _picture(number, _PHOTO).save(path, quality=90)
        pixels, done, since = FilePixels(paths, 3, 224), 0, time.perf_counter()
        while time.perf_counter() - since < seconds:
            pixels.fetch(range(len(paths)))
            done += len(paths)
        return done / (time.perf_counter() - since)


def _peak_mb() -> float:
    """This process's peak; on Linux the usage record may hold that of its parent as well."""
    return _status_mb("VmHWM") or _recorded_mb(resource.RUSAGE_SELF)


def _held_mb() -> float:
    """This process's own memory without what malloc keeps for reuse."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    return _status_mb("RssAnon") or _peak_mb()


def _status_mb(key: str) -> float | None:
    """A line of Linux's status of this process."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    (line,) = (line for line in status.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 2**10


def _recorded_mb(who: int) -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(who).ru_maxrss / unit


def _main(folder: str, streamed: str) -> None:
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(sys.stderr):
        images = _stream(folder, int(streamed))
    found = {
        "process_mb": _peak_mb(),
        "worker_mb": _recorded_mb(resource.RUSAGE_CHILDREN),
        "held_mb": _held_mb(),
    }
    assert len(images)  # held until here, as a run holds its sets
    print(json.dumps(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
