"""A detector as files that run without this package, each checked against the detector.

Preprocessing lies inside the graph: the input is uint8 NCHW at any batch size, the output the
score. The formats are those of `atd.detectors.formats`.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atd.detectors.base import Detector
from atd.detectors.formats import FORMATS, check_formats
from atd.detectors.formats.manifest import MANIFEST, describe, digests, is_export
from atd.detectors.formats.onnx import DEFAULT_OPSET, check_opset
from atd.detectors.formats.own_images import read_own_images
from atd.detectors.formats.parity import BATCHES, Samples, deviations, pictures
from atd.detectors.formats.traced import Part, Traced, scorer_of, trace
from atd.errors import UserError
from atd.files import replacing_folder, require_ours

__all__ = ["export_detector"]


def export_detector(
    source: str | Path | Detector,
    output: str | Path,
    formats: Sequence[str],
    *,
    opset: int = DEFAULT_OPSET,
    part: Part = "detector",
    calibration: Sequence[str | Path] = (),
    ood: Sequence[str | Path] = (),
) -> Path:
    """Exports a detector, checks every file, and writes a manifest beside them.

    Args:
        source: The detector, or its folder.
        output: Folder to write; an older export there is replaced once the new one is complete.
        formats: Keys of `FORMATS`.
        opset: Version of ONNX' operators.
        part: All of it, or ATD's discriminator alone, which takes the backbone's features.
        calibration: Files and folders of ID images. Half of them tell the ranges to round to int8
            by, the others judge; every format is compared on them.
        ood: Those of OOD images, to judge int8 by; none alters the ID images.

    Returns:
        The output folder.

    Raises:
        UserError: The detector cannot be loaded or exported, a format is unknown or needs
            packages or images that are missing, an image cannot be read, or `output` is a folder
            of something else.
        RuntimeError: A file does not give the detector's scores; nothing is kept.
    """
    output, formats = Path(output), list(dict.fromkeys(formats))
    check_formats(formats, part, images=bool(calibration))
    if ood and not calibration:
        raise UserError("--ood: judges onnx-int8; name --calibration IMAGES too")
    check_opset(opset)
    require_ours(output, ours=is_export, what="an export")
    detector = source if isinstance(source, Detector) else Detector.from_pretrained(source)
    detector.require_fitted()
    if any(module.training for module in detector.modules()) or detector.device.type != "cpu":
        detector = copy.deepcopy(detector).cpu()  # others may be using this one
    images = read_own_images(calibration, ood, detector.config) if calibration else None
    scorer = scorer_of(detector, part)
    program = trace(scorer, detector)
    try:
        with (
            replacing_folder(output, ours=is_export, what="an export") as fresh,
            tempfile.TemporaryDirectory(prefix="atd-") as scratch,
        ):
            traced = Traced(
                detector=detector,
                scorer=scorer,
                program=program,
                description=describe(detector, scorer),
                scratch=Path(scratch),
                opset=opset,
                images=images,
            )
            manifest = _write_files(traced, fresh, formats, part)
            (fresh / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"{output}: cannot write the export: {error}") from None
    return output


def _write_files(
    traced: Traced, folder: Path, formats: Sequence[str], part: Part
) -> dict[str, Any]:
    """Writes and checks a file after the other; what the manifest says."""
    own = traced.images.inside if traced.images else None
    samples = Samples.of(traced.scorer, pictures(traced.detector, own))
    parity, rounded = {}, {}
    for name in formats:
        form = FORMATS[name]
        path = form.name(part)
        run = form.write(traced, folder / path)
        if form.judge is None:
            parity[path] = deviations(run, samples, path)
        else:
            # Its scores are its own, and no others in a batch of another size.
            parity[path] = deviations(run, samples.seen_by(run), path)
            rounded[path] = form.judge(traced, run, samples.work)
    return {
        **traced.description,
        "files": digests(folder),
        "parity": {
            "tolerance": samples.tolerance(),
            "batches": samples.batches,
            "batches_not_tried": [size for size in BATCHES if size not in samples.batches],
            "largest_deviation": parity,
        },
        **({"rounded": rounded} if rounded else {}),
    }
