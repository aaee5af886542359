"""What may change in a detector's folder once its weights are made: threshold, sample and card."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from atd.detectors.calibration import CALIBRATION_FILE, CalibrationSample
from atd.detectors.config import DetectorConfig
from atd.detectors.folder import is_detector_folder
from atd.detectors.writing import as_text, copy_others
from atd.errors import UserError
from atd.files import replacing_folder

__all__ = ["amend_detector"]


def amend_detector(
    folder: Path, config: DetectorConfig, sample: CalibrationSample | None, card: str
) -> None:
    """Replaces description, calibration sample and card of a detector folder, all or nothing.

    Args:
        folder: The detector folder; its weights stay as they are.
        config: The description, with the digest of those weights.
        sample: The calibration sample; None leaves the detector without one.
        card: The model card in Markdown.

    Raises:
        UserError: The folder cannot be written; it is as it was.
    """
    if folder.is_symlink():
        folder = folder.resolve()
    content = b"" if sample is None else sample.to_bytes()
    digest = hashlib.sha256(content).hexdigest() if content else ""
    config = dataclasses.replace(config, calibration_sha256=digest)
    files = {"config.json": as_text(config).encode(), "README.md": card.encode()}
    files |= {CALIBRATION_FILE: content} if content else {}
    try:
        with replacing_folder(folder, ours=is_detector_folder, what="a detector folder") as fresh:
            for name, written in files.items():
                (fresh / name).write_bytes(written)
            copy_others(folder, fresh, (*files, CALIBRATION_FILE))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None
