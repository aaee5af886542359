"""Detectors into folders, which are written whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from atd.detectors.base import Detector
from atd.detectors.calibration import CALIBRATION_FILE
from atd.detectors.config import FORMAT, DetectorConfig
from atd.detectors.folder import is_detector_folder
from atd.detectors.kinds import KINDS
from atd.detectors.stored import DETECTOR_FILES
from atd.detectors.weights import stored_in_half
from atd.errors import UserError
from atd.files import replacing_folder

__all__ = ["as_text", "copy_others", "write_detector"]


def write_detector(detector: Detector, folder: Path, card: str = "", *, half: bool = False) -> None:
    """Writes a detector folder; an older one is replaced only when the new one is complete.

    Whoever reads meanwhile finds the old or the new one. Files that somebody put beside those of
    a detector are kept.

    Args:
        detector: The detector.
        folder: Where to write.
        card: The model card in Markdown; left out, see `Detector.save_pretrained`.
        half: Store large weights in float16, see `Detector.save_pretrained`.

    Raises:
        UserError: The folder holds something else or cannot be written, a weight is too large for
            float16, or the detector is not fitted or cannot be rebuilt from a description.
    """
    from safetensors import SafetensorError

    _require_complete(detector)
    if folder.is_symlink():
        folder = folder.resolve()
    try:
        config, files = _files(detector, card, half=half)
        with replacing_folder(folder, ours=is_detector_folder, what="a detector folder") as fresh:
            for name, content in files.items():
                (fresh / name).write_bytes(content)
            copy_others(folder, fresh, DETECTOR_FILES)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{folder}: cannot write the detector ({error}); free some space and run the same "
            "command again"
        ) from None
    detector.config, detector.card = config, files["README.md"].decode()


def _files(detector: Detector, card: str, *, half: bool) -> tuple[DetectorConfig, dict[str, bytes]]:
    """The description with the digests of its files, and the content of every file."""
    from safetensors.torch import save

    state = {
        name: _loadable(value).detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in detector.state_dict().items()
    }
    if half:
        state = {name: _halved(name, value) for name, value in state.items()}
    weights = save(state)
    sample = b"" if detector.calibration is None else detector.calibration.to_bytes()
    before = detector.config
    config = dataclasses.replace(
        before,
        format=FORMAT,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        description_sha256=before.described(),
        calibration_sha256=hashlib.sha256(sample).hexdigest() if sample else "",
    )
    unchanged = config.weights_sha256 == before.weights_sha256
    words = card or (detector.card if unchanged else "") or _plain_card(config)
    files = {"model.safetensors": weights, "config.json": as_text(config).encode()}
    files["README.md"] = words.encode()
    return config, files | ({CALIBRATION_FILE: sample} if sample else {})


def _plain_card(config: DetectorConfig) -> str:
    """What is known of a detector that nobody has evaluated."""
    return f"# {config.name}\n\nAn OOD detector. {config.score}.\n"


def _loadable(values: Tensor) -> Tensor:
    """A detector that somebody has made a half one is stored as it was loaded."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _halved(name: str, values: Tensor) -> Tensor:
    if not stored_in_half(values):
        return values
    if not (halved := values.half()).isfinite().all():
        raise UserError(f"{name}: a weight is too large for float16; save with half=False")
    return halved


def _require_complete(detector: Detector) -> None:
    name = detector.config.name
    if detector.kind not in KINDS:
        raise UserError(
            f"detector {name}: kind {detector.kind} is not among those of this package, so that it "
            "could not be loaded again; keep its code, or export it"
        )
    if detector.backbone is not None and detector.config.backbone is None:
        raise UserError(
            f"detector {name}: its backbone was not made by build_backbone, so that it cannot be "
            "built again from a description; build it with build_backbone, or "
            "backbone.architecture=import:MODULE:CALLABLE"
        )
    detector.require_fitted()


def as_text(config: DetectorConfig) -> str:
    """The content of `config.json`."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def copy_others(old: Path, fresh: Path, written: Sequence[str]) -> None:
    """Copies what lies in an old folder and is not written anew.

    Raises:
        UserError: There is a pipe, a socket or a device.
        OSError: It cannot be copied.
    """
    if not old.is_dir():
        return
    for entry in old.iterdir():
        if entry.name in written:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, fresh / entry.name, symlinks=True)
        elif entry.is_symlink() or entry.is_file():
            shutil.copy2(entry, fresh / entry.name, follow_symlinks=False)
        else:
            raise UserError(f"{entry}: not a file of a detector; move it away")
