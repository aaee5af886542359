"""Training steps on images from folders against the same steps on images that lie ready.

python -m benchmarks.pipeline --output docs/performance/pipeline.cpu.json
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import interpolate

from atd.data.splits import load_splits
from atd.errors import run_command
from atd.training.adversarial_gan import AdversarialGan
from benchmarks.speed import Setting, finish, parser, setting_from
from benchmarks.speed_table import origin, spread
from benchmarks.timing import Spread, ratios, synchronise
from benchmarks.workbench import atd_task, first_batch, plain_config

__all__ = ["loading", "make_folder", "pipeline_table"]

_SIZES = (32, 224)
_SIDES = ("resident", "memory", "streaming")
Record = dict[str, Any]


def main() -> None:
    run_command(_main)


def _main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--steps", type=int, help="steps of a block (4; CUDA: 40)")
    arguments = options.parse_intermixed_args()
    setting = setting_from(arguments, cpu_batch=16)
    started = time.monotonic()
    steps = arguments.steps or (2 if setting.quick else 40 if setting.device == "cuda" else 4)
    with tempfile.TemporaryDirectory() as folder:
        found = [
            record
            for size in _SIZES
            for record in loading(size, setting, Path(folder), steps, arguments.repeats or 3)
        ]
    finish("pipeline", {"loading": found}, setting, arguments.output, started, pipeline_table)


def make_folder(folder: Path, count: int, size: int, seed: int) -> None:
    """Writes smooth random images as two class folders: PNG up to 64 px, JPEG above.

    Args:
        folder: Where to write.
        count: Number of images.
        size: Side in pixels; larger images are written a quarter wider than high.
        seed: Seed of the images.
    """
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


def loading(size: int, setting: Setting, work: Path, steps: int, repeats: int) -> list[Record]:
    """Steps in blocks, each block from a fresh start of the loader, in turns.

    The wait for a block's first batch is left out; a long training has it once.

    Args:
        size: Side of the images; 224 px on a CPU takes a quarter of the setting's batch.
        setting: What all benchmarks share.
        work: A folder for the images.
        steps: Timed steps of a block.
        repeats: Timed blocks of each side.

    Returns:
        A record for each place of the images: ready on the device, in memory, on disk.
    """
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
    records = []
    for side in _SIDES:
        apart = [ratio - 1 for ratio in ratios(each[side], each["resident"])]
        times = {"seconds": Spread.of(each[side]).record(), "apart": Spread.of(apart).record()}
        records.append({"size": size, "batch": batch, "images": side, **times})
    records[-1] |= {
        "workers": plain_config(setting.config()).loader.workers,
        "cores": os.cpu_count(),
        "images_per_second": 2 * batch / Spread.of(each["streaming"]).median,
        "loader_images_per_second": _rate(tasks["streaming"], setting.device, steps),
    }
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


def pipeline_table(found: Record) -> str:
    """The Markdown table of the places that images come from."""
    lines = [
        "| images | batch | seconds a step | longer than resident, % | loader |",
        "|---|---:|---:|---:|---|",
    ]
    for record in found["loading"]:
        apart = {key: 100 * value for key, value in record["apart"].items()}
        cells = [
            f"{record['size']} px, {record['images']}",
            str(record["batch"]),
            spread(record["seconds"], 3),
            spread(apart, 1) if record["images"] != "resident" else "-",
            _loader(record),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", origin(found)])


def _loader(record: Record) -> str:
    if "workers" not in record:
        return "-"
    return (
        f"{record['workers']} workers for each of two streams load "
        f"{record['loader_images_per_second']:,.0f} images/s on {record['cores']} cores; "
        f"the step takes {record['images_per_second']:,.0f}"
    )


if __name__ == "__main__":
    main()
