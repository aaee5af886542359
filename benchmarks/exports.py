"""How fast exported files are beside the detector in torch, and what rounding one costs.

    python -m benchmarks.exports DETECTOR ... --output docs/export.md

It exports each detector with the test images of its own record, and times one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from atd.data.evaluation_sets import load_evaluation_sets
from atd.data.images import ImageSet
from atd.detectors.base import Detector
from atd.detectors.export import export_detector
from atd.errors import run_command
from atd.evaluation.record import recorded_config
from atd.files import write_text
from atd.provenance import provenance
from atd.reporting.wording import measured_on
from benchmarks.export_forms import FILES, Run, load
from benchmarks.speed_table import spread
from benchmarks.timing import Spread, interleave, ratios

__all__ = ["measure", "page"]

BATCHES = (1, 32, 256)
_IMAGES = 400  # of each side, to round and to judge by
_ROUNDS = (5, 41)


def main() -> None:
    run_command(_main)


def _main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("detectors", nargs="+", metavar="DETECTOR", type=Path)
    options.add_argument("--starts", type=int, default=5, help="new processes of each form")
    options.add_argument("--seconds", type=float, default=10, help="of rounds, for a batch size")
    options.add_argument("--output", type=Path, default=Path("docs/export.md"))
    given, started = options.parse_args(), time.monotonic()
    os.environ["OMP_NUM_THREADS"] = "1"
    found: dict[str, Any] = {"detectors": []}
    for folder in given.detectors:
        found["detectors"].append(measure(folder, starts=given.starts, seconds=given.seconds))
    found["provenance"] = provenance(None, seed=0, seconds=time.monotonic() - started)
    write_text(given.output.with_suffix(".json"), json.dumps(found, indent=1))
    write_text(given.output, page(found))
    print(given.output)


def measure(folder: Path, *, starts: int, seconds: float) -> dict[str, Any]:
    """Exports a detector and times every form of it.

    Args:
        folder: The detector, with the record of its training.
        starts: New processes of each form.
        seconds: How long the rounds of a batch size take, about.
    """
    detector = Detector.from_pretrained(folder)
    shape = [detector.config.channels, *2 * [detector.config.image_size]]
    with tempfile.TemporaryDirectory() as work:
        # The first start of a form compiles what there is to compile, the others find it.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{work}/compiled"
        rounded = _export(detector, folder, Path(work))
        export = Path(work) / "export"
        begun = {form: _starts(form, folder, export, shape, starts) for form in FILES}
        sides = {form: load(form, folder, export) for form in FILES}
        times = {str(count): _times(sides, [count, *shape], seconds) for count in BATCHES}
        return {
            "name": detector.config.name,
            "weights_sha256": detector.config.weights_sha256,
            "shape": shape,
            "rounded": rounded,
            "forms": {
                form: {**begun[form], "batches": {count: times[count][form] for count in times}}
                for form in FILES
            },
        }


def _export(detector: Detector, folder: Path, work: Path) -> dict[str, Any]:
    """Writes all files; what the manifest says of the rounded one."""
    sets = load_evaluation_sets(recorded_config(detector, str(folder), ()), downloads=False)
    _write_images(sets.id_test, _IMAGES, work / "id")
    for name, images in sets.ood_test.items():
        _write_images(images, _IMAGES // len(sets.ood_test), work / "ood" / name)
    export = export_detector(
        detector,
        work / "export",
        [form for form, file in FILES.items() if file],
        calibration=[work / "id"],
        ood=[work / "ood"],
    )
    found = json.loads((export / "manifest.json").read_text("utf-8"))["rounded"]
    facts: dict[str, Any] = found["detector-int8.onnx"]
    facts["id"]["name"], facts["ood"]["name"] = sets.id_test.name, ", ".join(sets.ood_test)
    return facts


def _write_images(images: ImageSet, count: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    some = images.take(count, 0)
    for row, pixels in enumerate(some.fetch(range(len(some)))):
        shown = pixels.permute(1, 2, 0).numpy()
        Image.fromarray(shown.squeeze(-1) if shown.shape[-1] == 1 else shown).save(
            folder / f"{row:04}.png"
        )


def _starts(form: str, folder: Path, export: Path, shape: list[int], count: int) -> dict[str, Any]:
    """Seconds of new processes until their first score, and the most memory they took in MiB."""
    words = map(str, (form, folder, export, BATCHES[-1], *shape))
    command = [sys.executable, "-m", "benchmarks.export_forms", *words]
    seconds, memory = [], []
    for _ in range(count + 1):
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            at_first = float(process.stdout.readline())
            seconds.append(time.perf_counter() - began)
            memory.append((at_first, float(process.stdout.readline())))
    return {
        "start": Spread.of(seconds[1:]).record(),
        "first_start": seconds[0],
        "mib": [max(column) for column in zip(*memory[1:], strict=True)],
    }


def _times(sides: dict[str, Run], shape: list[int], seconds: float) -> dict[str, Any]:
    """Milliseconds of a batch in every form, and times as fast as eager in the same round."""
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    steps = {form: (lambda run=run: run(images)) for form, run in sides.items()}
    interleave(steps, repeats=0, device="cpu")  # compiles for this size
    took = interleave(steps, repeats=1, device="cpu", warmup=0).values()
    rounds = round(min(_ROUNDS[1], max(_ROUNDS[0], seconds / sum(times[0] for times in took))))
    found = interleave(steps, repeats=rounds, device="cpu", warmup=0, clock=time.process_time)
    return {
        form: {
            "ms": Spread.of([1000 * value for value in values]).record(),
            "times_faster": Spread.of(ratios(found["eager"], values)).record(),
        }
        for form, values in found.items()
    }


def page(found: dict[str, Any]) -> str:
    """The document of what was found."""
    return "\n".join([_HEAD, *_lines(found), "", measured_on([found["provenance"]])]) + "\n"


def _lines(found: dict[str, Any]) -> Iterator[str]:
    for item in found["detectors"]:
        yield f"\n## {item['name']}, images of {' x '.join(map(str, item['shape']))}\n"
        if digest := item.get("weights_sha256"):
            yield f"Weights: SHA-256 `{digest}`.\n"
        yield f"| form | {' | '.join(f'batch {count}' for count in BATCHES)} | start, s | MiB |"
        yield "|---|" + "---:|" * (len(BATCHES) + 2)
        for form, row in item["forms"].items():
            cells = [_cell(row["batches"][str(count)]) for count in BATCHES]
            cells += [spread(row["start"], 2), " / ".join(f"{mib:,.0f}" for mib in row["mib"])]
            yield f"| {form} | {' | '.join(cells)} |"
        if compiled := item["forms"].get("compiled"):
            first = f"{compiled['first_start']:.0f} s"
            yield f"\nThe very first start of *compiled*, which fills its cache, took {first}.\n"
        yield from _judged(item["rounded"])


def _cell(row: dict[str, Any]) -> str:
    return f"{_digits(row['ms']['median'])} ms, **{spread(row['times_faster'], 2)}**"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _judged(found: dict[str, Any]) -> Iterator[str]:
    """What `atd.export` found of int8 when it was attacked."""
    inside, outside, attack = found["id"], found["ood"], found["attack"]
    yield (
        f"AUROC (95% interval) of {inside['images']} ID images ({inside['name']}) and "
        f"{outside['images']} OOD images ({outside['name']}); attacked on both sides within "
        f"L-infinity {attack['epsilon']} by {' and '.join(attack['members'])}. "
        "Each image takes its worse attack; no checks were run. Other ID images, "
        f"{found['calibration']['images']} of them, have told how to round.\n"
    )
    yield "| file | clean | both attacked |\n|---|---:|---:|"
    for form in ("float32", "int8"):
        cells = [
            f"{side['auroc']:.4f} ({side['auroc_ci'][0]:.4f} to {side['auroc_ci'][1]:.4f})"
            for side in (found[form]["clean"], found[form]["both"])
        ]
        yield f"| {form} | {' | '.join(cells)} |"


_HEAD = """\
# How fast exports are

One thread scores the same uint8 images in turns: *eager* is the detector in torch, *compiled* the
same by `torch.compile` for any batch size, the others are files of `atd.export`, run by torch
(`pt2`) and ONNX Runtime. A cell is the processor's time for a batch and, in bold, how many times
as fast as eager that is: the median over rounds of the ratio within a round, with quartiles in
brackets. A start is a new process until its first score, Python and imports included, by the clock
on the wall of a machine on which others worked (median and quartiles). MiB is the most memory of
such a process after one image, and after a batch of 256.

What may surprise:

* `pt2` is slower than eager at batch 1: its program is run from Python operator by operator and
  looks up each weight by name, which takes as long for one image as for 256.
* `compiled` starts slowest even where its code is cached: every process traces the network anew.
* ONNX Runtime starts at once and takes little memory, because nothing of torch is imported; it is
  fastest on small batches, since no Python lies between the operators and normalisation is folded
  into convolutions.
* `onnx-int8` gains nothing over `onnx` on the small network, and much on the large one: only
  convolutions compute in 8 bits, and converting what goes in and out costs what small ones save.
* On the large network torch takes longer for a batch of 256 than for eight of 32: activations of
  67 MB each fit into no cache. ONNX Runtime does not.
* The attack on an int8 file follows the gradient of the float32 detector, since its own is not
  known: that its AUROC is hardly lower does not say that a better attack finds nothing.

    python -m benchmarks.exports DETECTOR ... --output docs/export.md

The small network is that of `python train.py`, and takes about three minutes; the large one, of ten
minutes, is `checkpoints/cifar10/detector`, whose images lie in `data/`. Where no SHA-256 is told,
it is the detector of commit 9b11161, which is no longer shipped: the one that is has the same
network, which its times depend on, but other weights, and so another AUROC. Which kinds can be
exported is told in [export_kinds.md](export_kinds.md)."""


if __name__ == "__main__":
    main()
