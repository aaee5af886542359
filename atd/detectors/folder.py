"""A detector's folder on disk: config.json, model.safetensors, README.md."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from atd.detectors.base import Detector
from atd.detectors.build import build_detector
from atd.detectors.config import FORMAT, DetectorConfig
from atd.errors import UserError

__all__ = ["read_config", "read_detector", "write_detector"]


def write_detector(detector: Detector, folder: Path, card: str = "") -> None:
    """Writes a detector folder; an older one is replaced only when the new one is complete.

    Args:
        detector: The detector.
        folder: Where to write.
        card: The model card in Markdown.

    Raises:
        UserError: The folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save

    fresh, old = folder.with_name(folder.name + ".tmp"), folder.with_name(folder.name + ".old")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        state = {key: value.cpu().contiguous() for key, value in detector.state_dict().items()}
        weights = save(state)
        digest = hashlib.sha256(weights).hexdigest()
        config = dataclasses.replace(detector.config, format=FORMAT, weights_sha256=digest)
        (fresh / "model.safetensors").write_bytes(weights)
        text = json.dumps(dataclasses.asdict(config), indent=2)
        (fresh / "config.json").write_text(text + "\n", encoding="utf-8")
        default = f"# {config.name}\n\nAn OOD detector. {config.score}.\n"
        (fresh / "README.md").write_text(card or default, encoding="utf-8")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(fresh, folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise UserError(
            f"{folder}: cannot write the detector ({error}); free some space and run the same "
            "command again"
        ) from None
    detector.config = config


def read_detector(folder: Path) -> Detector:
    """Loads a detector folder onto the CPU, in evaluation mode; nothing is unpickled.

    Args:
        folder: A folder with `config.json` and `model.safetensors`.

    Returns:
        The detector.

    Raises:
        UserError: The folder is no detector, is damaged, or was made by a newer version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_config(folder)
    weights = folder / "model.safetensors"
    try:
        detector = build_detector(config)
        detector.load_state_dict(load_file(weights))
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{weights}: cannot be read: {error}") from None
    except (RuntimeError, TypeError, ValueError) as error:
        first = str(error).splitlines()[-1].strip()
        raise UserError(f"{weights}: does not fit config.json: {first}") from None
    return detector.eval().requires_grad_(False)


def read_config(folder: Path) -> DetectorConfig:
    """Reads `config.json` of a detector folder, of format 1 or 2.

    Args:
        folder: The detector folder.

    Returns:
        The description.

    Raises:
        UserError: There is none, or it is damaged or of a newer format.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{folder}: not a detector folder (it has no config.json)")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from None
    if not isinstance(values, dict) or values.get("format") not in (1, FORMAT):
        raise UserError(f"{file}: not a detector of format 1 or {FORMAT}; update atd")
    if values["format"] == 1:
        values = _from_format1(values)
    known = {item.name for item in dataclasses.fields(DetectorConfig)}
    try:
        return DetectorConfig(**{key: value for key, value in values.items() if key in known})
    except (TypeError, ValueError) as error:
        raise UserError(f"{file}: {error}") from None


def _from_format1(values: dict[str, Any]) -> dict[str, Any]:
    """Format 1 knew one kind only, with one option."""
    rest = {key: value for key, value in values.items() if key != "normalisation"}
    options = {"normalisation": values.get("normalisation", "layer")}
    return {**rest, "kind": "atd", "options": options, "format": FORMAT}
