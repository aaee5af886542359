"""What `manifest.json` of an export tells whoever uses its files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

import atd
from atd.detectors.base import Detector
from atd.detectors.formats.traced import FeatureScorer, Scorer

__all__ = ["MANIFEST", "describe", "digests", "is_export"]

MANIFEST = "manifest.json"


def describe(detector: Detector, scorer: Scorer | FeatureScorer) -> dict[str, Any]:
    """Input, output, threshold and origin of what is exported."""
    config = detector.config
    return {
        "format": 1,
        "name": config.name,
        "kind": config.kind,
        "input": _images(detector) if isinstance(scorer, Scorer) else _features(scorer),
        "output": {"name": "score", "dtype": "float32", "shape": ["batch"]},
        "score_direction": config.score,
        "threshold": config.threshold,
        "threshold_note": config.threshold_note,
        "provenance": {
            **config.provenance,
            "exported_with": {"atd": atd.__version__, "torch": torch.__version__},
        },
    }


def _images(detector: Detector) -> dict[str, Any]:
    config = detector.config
    return {
        "name": Scorer.takes,
        "dtype": "uint8",
        "layout": "NCHW",
        "range": [0, 255],
        "shape": ["batch", config.channels, config.image_size, config.image_size],
        "batch": [0, None],
        "preprocessing": config.preprocessing.replace("values in [0, 1]", "values 0 to 255"),
    }


def _features(scorer: FeatureScorer) -> dict[str, Any]:
    return {
        "name": FeatureScorer.takes,
        "dtype": "float32",
        "shape": ["batch", scorer.mean.numel()],
        "batch": [0, None],
        "preprocessing": "features of the backbone as it gives them; standardised inside the model",
    }


def digests(folder: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 and size of every file in a folder, by its path within."""
    return {
        file.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "bytes": file.stat().st_size,
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def is_export(folder: Path) -> bool:
    """Whether a folder holds an export and nothing that its manifest does not list."""
    try:
        known = json.loads((folder / MANIFEST).read_text("utf-8")).get("files", {})
    except (OSError, ValueError, AttributeError):
        return False
    files = {
        entry.relative_to(folder).as_posix() for entry in folder.rglob("*") if not entry.is_dir()
    }
    return files <= {MANIFEST, *known}
