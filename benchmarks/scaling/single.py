"""Measurements of whole processes: start-up, memory while streaming, decoding."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image

from atd.config import load
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
        options = ("atd.train", f"run.dir={log.parent}", "run.device=cpu")
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


def streaming_memory(count: int) -> dict[str, float]:
    """Peak memory of a process that reads and streams a folder of images from disk.

    Args:
        count: Images in the folder.

    Returns:
        `images`, `decoded_mb` that they would take in memory, and peaks in MB: `process_mb` and
        its data worker's `worker_mb` (pages that it shares with the process included).
    """
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            file = Path(folder) / str(number % 10) / f"{number:06d}.jpg"
            file.parent.mkdir(exist_ok=True)
            _picture(number, (_PIXELS, _PIXELS)).save(file)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.scaling.single", folder],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            check=True,
        )
    peaks = json.loads(done.stdout.splitlines()[-1])
    return {"images": count, "decoded_mb": count * 3 * _PIXELS**2 / 2**20, **peaks}


def _picture(number: int, size: tuple[int, int]) -> Image.Image:
    """Smooth colours, no two alike; as many bytes as a photograph of that size, about."""
    grid = tuple(max(8, side // 4) for side in size)
    generator = torch.Generator().manual_seed(number)
    noise = torch.randint(256, (grid[1], grid[0], 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(noise.numpy()).resize(size, Image.Resampling.BICUBIC)


def _stream(folder: str) -> Iterator[torch.Tensor]:
    """Reads a folder as a run does, and every training image once more as an epoch does."""
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
    for pixels, _ in stream.batches(0, stream.steps_per_epoch, Processes("cpu")):
        yield pixels


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
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return _recorded_mb(resource.RUSAGE_SELF)


def _recorded_mb(who: int) -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(who).ru_maxrss / unit


if __name__ == "__main__":
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(sys.stderr):
        for _ in _stream(sys.argv[1]):
            pass
    worker = _recorded_mb(resource.RUSAGE_CHILDREN)
    print(json.dumps({"process_mb": _peak_mb(), "worker_mb": worker}))
