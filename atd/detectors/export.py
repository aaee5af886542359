"""A detector as files that run without this package, each checked against the detector.

Preprocessing lies inside the graph: the input is uint8 NCHW at any batch size, the output the
score. The formats are those of `atd.detectors.formats`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atd.detectors.base import Detector
from atd.detectors.formats import FORMATS, check_formats
from atd.detectors.formats.manifest import MANIFEST, describe, digests, is_export
from atd.detectors.formats.onnx import DEFAULT_OPSET, check_opset
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
) -> Path:
    """Exports a detector, checks every file, and writes a manifest beside them.

    Args:
        source: The detector, or its folder.
        output: Folder to write; an older export there is replaced once the new one is complete.
        formats: Keys of `FORMATS`.
        opset: Version of ONNX' operators.
        part: All of it, or ATD's discriminator alone, which takes the backbone's features.

    Returns:
        The output folder.

    Raises:
        UserError: The detector cannot be loaded or exported, a format is unknown or needs
            packages that are missing, or `output` is a folder of something else.
        RuntimeError: A file does not give the detector's scores; nothing is kept.
    """
    output, formats = Path(output), list(dict.fromkeys(formats))
    check_formats(formats)
    check_opset(opset)
    require_ours(output, ours=is_export, what="an export")
    detector = source if isinstance(source, Detector) else Detector.from_pretrained(source)
    detector.require_fitted()
    if any(module.training for module in detector.modules()) or detector.device.type != "cpu":
        detector = copy.deepcopy(detector).cpu()  # others may be using this one
    scorer = scorer_of(detector, part)
    traced = Traced(
        detector=detector,
        scorer=scorer,
        program=trace(scorer, detector),
        description=describe(detector, scorer),
        opset=opset,
    )
    samples = Samples.of(scorer, pictures(detector, None))
    try:
        with replacing_folder(output, ours=is_export, what="an export") as fresh:
            manifest = _write_files(traced, samples, fresh, formats, part)
            (fresh / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"{output}: cannot write the export: {error}") from None
    return output


def _write_files(
    traced: Traced, samples: Samples, folder: Path, formats: Sequence[str], part: Part
) -> dict[str, Any]:
    """Writes and checks a file after the other; what the manifest says."""
    parity = {}
    for name in formats:
        path = FORMATS[name].name(part)
        run = FORMATS[name].write(traced, folder / path)
        parity[path] = deviations(run, samples, path)
    return {
        **traced.description,
        "files": digests(folder),
        "parity": {
            "tolerance": samples.tolerance(),
            "batches": samples.batches,
            "batches_not_tried": [size for size in BATCHES if size not in samples.batches],
            "largest_deviation": parity,
        },
    }
