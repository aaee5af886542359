"""Training steps on images from a folder against the same steps on images that lie ready."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import interpolate

from atd.data.splits import load_splits
from atd.training.adversarial_gan import AdversarialGan
from benchmarks.command import Setting
from benchmarks.timing import Spread, synchronise
from benchmarks.workbench import atd_task, first_batch, plain_config

__all__ = ["LIMITS", "loading", "make_folder"]

LIMITS = {32: 0.05, 224: 0.15}
"""By how much loading may lengthen a step, for each size in pixels."""

_SIDES = ("resident", "memory", "streaming")


def make_folder(folder: Path, count: int, size: int, seed: int) -> None:
    """Writes smooth random images as two class folders: PNG up to 64 px, JPEG above.

    Args:
        folder: Where to write.
        count: Number of images.
        size: Side in pixels; larger images are written a quarter wider than high.
        seed: Seed of the images.
    """
    from PIL import Image

    generator = torch.Generator().manual_seed(seed)
    width, suffix = (size, "png") if size <= 64 else (size * 5 // 4, "jpg")
    for index in range(count):
        coarse = torch.rand(1, 3, 8, 8, generator=generator)
        smooth = interpolate(coarse, (size, width), mode="bicubic").clamp(0, 1)[0]
        noisy = smooth + 0.05 * torch.randn(smooth.shape, generator=generator)
        pixels = (255 * noisy.clamp(0, 1)).byte().permute(1, 2, 0).numpy()
        file = folder / str(index % 2) / f"{index}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)


def loading(setting: Setting, work: Path, *, steps: int, repeats: int) -> list[dict[str, Any]]:
    """Steps in blocks, each block from a fresh start of the loader, in turns.

    The wait for a block's first batch is left out; a long training has it once.

    Args:
        setting: The batch is that of 32 px; 224 px on a CPU takes a quarter of it.
        work: A folder for the images.
        steps: Timed steps of a block.
        repeats: Timed blocks of each side.

    Returns:
        A record for each image size and place of the images.
    """
    return [
        record
        for size in LIMITS
        for record in _of_size(size, setting, work, steps=steps, repeats=repeats)
    ]


def _of_size(
    size: int, setting: Setting, work: Path, *, steps: int, repeats: int
) -> list[dict[str, Any]]:
    batch = max(2, setting.batch // (4 if size > 64 and setting.device == "cpu" else 1))
    for seed, name in enumerate(("id", "outliers")):
        make_folder(work / str(size) / name, 2 * batch * (steps + 2) + 40, size, seed)
    tasks = {side: _task(side, size, batch, setting, work) for side in _SIDES}
    blocks = {side: _block(side, task, steps) for side, task in tasks.items()}
    each: dict[str, list[float]] = {side: [] for side in _SIDES}
    for turn in range(1 + repeats):
        for side, block in blocks.items():
            seconds = block() / steps
            if turn > 0:
                each[side].append(seconds)
    workers = plain_config(setting.config()).loader.workers
    supply = _rate(tasks["streaming"], setting.device, steps)
    records = []
    for side in _SIDES:
        apart = [one / other - 1 for one, other in zip(each[side], each["resident"], strict=True)]
        record = {
            "size": size,
            "batch": batch,
            "images": side,
            "seconds": Spread.of(each[side]).record(),
            "apart": Spread.of(apart).record(),
            "limit": LIMITS[size],
        }
        if side == "streaming":
            demand = 2 * batch / Spread.of(each[side]).median
            record |= {"workers": workers, "cores": os.cpu_count()}
            record |= {"images_per_second": demand, "loader_images_per_second": supply}
        records.append(record)
    return records


def _task(side: str, size: int, batch: int, setting: Setting, work: Path) -> AdversarialGan:
    root = work / str(size)
    overrides = [
        *setting.config(),
        f"atd.batch_size={batch}",
        f"data.id=folder:{root / 'id'}",
        f"data.outliers=folder:{root / 'outliers'}",
        f"data.image_size={size}",
        f"loader.memory_mb={0 if side == 'streaming' else 2048}",
    ]
    return atd_task(overrides, load_splits(plain_config(overrides)))


def _block(side: str, task: AdversarialGan, steps: int) -> Callable[[], float]:
    """Returns the seconds of the block's steps, without the wait for the first batch."""
    resident = first_batch(task) if side == "resident" else None

    def run() -> float:
        found = itertools.repeat(resident) if resident is not None else task.batches(0)
        first = next(found)
        synchronise(str(task.processes.device.type))
        started = time.perf_counter()
        for step, batch in enumerate(itertools.chain([first], itertools.islice(found, steps - 1))):
            task.step(step, batch)
        synchronise(str(task.processes.device.type))
        return time.perf_counter() - started

    return run


def _rate(task: AdversarialGan, device: str, steps: int) -> float:
    """Images per second of the loader alone, both streams, after its start."""
    found = task.batches(0)
    next(found)
    started = time.perf_counter()
    for _ in itertools.islice(found, steps):
        synchronise(device)
    return 2 * task.batch_size * steps / (time.perf_counter() - started)
