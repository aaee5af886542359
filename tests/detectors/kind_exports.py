"""Writes every kind of detector in the formats of `atd.export` and compares scores; makes the page.

OMP_NUM_THREADS=1 python -m tests.detectors.kind_exports --output docs/export_kinds.md
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atd.detectors.export import export_detector
from atd.detectors.formats import FORMATS
from atd.detectors.kinds import KINDS
from atd.errors import UserError
from atd.files import write_text
from atd.provenance import provenance
from atd.reporting.wording import measured_on
from tests.detectors.fitted_kinds import fitted, id_images, ood_images

BATCHES = (0, 1, 2, 7)

Found = dict[str, Any]


def tried(kind: str, formats: Sequence[str]) -> Found:
    """What comes of exporting a kind's fitted detector.

    Args:
        kind: The kind.
        formats: Formats of one file.

    Returns:
        `refused`, a line; or for each format the largest deviation at any of `BATCHES`, in standard
        deviations of the detector's scores.
    """
    detector = fitted(kind)
    pixels = torch.cat([id_images(2, seed=800)[0], ood_images(3, seed=801)])
    images = (pixels * 255).round().to(torch.uint8)
    expected = detector.score(images)
    with tempfile.TemporaryDirectory() as work:
        calibration = _calibration(Path(work)) if "onnx-int8" in formats else ()
        try:
            folder = export_detector(
                detector, Path(work) / "export", formats, calibration=calibration
            )
        except UserError as error:
            return {"refused": str(error).partition(" cannot be exported: ")[2]}
        found = {}
        for name in formats:
            run = loaded(folder / FORMATS[name].name("detector"))
            pairs = [(run(images[:count]), expected[:count]) for count in BATCHES]
            assert all(scores.shape == wanted.shape for scores, wanted in pairs)
            gap = max((scores - wanted).abs().max().item() for scores, wanted in pairs[1:])
            found[name] = gap / expected.std().item()
        return found


def _calibration(work: Path) -> list[Path]:
    folder = work / "images"
    folder.mkdir()
    for row, image in enumerate(id_images(12, seed=802)[0]):
        shown = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(shown).save(folder / f"{row}.png")
    return [folder]


def loaded(file: Path) -> Callable[[Tensor], Tensor]:
    """A file as a stranger loads it."""
    if file.suffix == ".pt2":
        program = torch.export.load(file).module()
        return lambda images: program(images).detach()
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    return lambda images: torch.from_numpy(
        np.asarray(session.run(["score"], {"images": images.numpy()})[0])
    )


def page(found: Found) -> str:
    """The document."""
    formats = found["formats"]
    rows = [_row(kind, row, formats) for kind, row in found["kinds"].items()]
    heads = f"| `detector.kind` | {' | '.join(f'`{name}`' for name in formats)} |"
    rule = "|---|" + "---|" * len(formats)
    table = "\n".join([heads, rule, *rows])
    return f"""# Which kinds are exported to what

Every kind of [kinds.md](kinds.md), fitted to small images, is written by `atd.export`, loaded as a
stranger would, and compared with the detector on batches of {", ".join(map(str, BATCHES))} images.
A cell is the largest deviation of a score, in standard deviations of the scores: rounding for `pt2`
and `onnx`, and what 8 bits cost for `onnx-int8`. `web` and `openvino` are made of the ONNX file,
and `--part discriminator` is for `atd` alone. These networks are four channels wide, and what 8
bits cost them says nothing of others: of trained detectors it is told in [export.md](export.md). A
kind that is not exported says why.

{table}

    python -m tests.detectors.kind_exports --output docs/export_kinds.md

{measured_on([found["provenance"]])}
"""


def _row(kind: str, found: Found, formats: Sequence[str]) -> str:
    cells = [f"{found[name]:.0e}" for name in formats if name in found]
    if "refused" in found:
        cells = [f"no: {found['refused']}", *[""] * (len(formats) - 1)]
    return f"| {' | '.join([f'`{kind}`', *cells])} |"


def main() -> None:
    """Runs every kind and writes page and JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("docs/export_kinds.md"))
    output, started = parser.parse_args().output, time.monotonic()
    formats = ["pt2", "onnx", "onnx-int8"]
    found: Found = {"formats": formats, "kinds": {kind: tried(kind, formats) for kind in KINDS}}
    found["provenance"] = provenance(None, seed=0, seconds=time.monotonic() - started)
    write_text(output.with_suffix(".json"), json.dumps(found, indent=1))
    write_text(output, page(found))


if __name__ == "__main__":
    main()
