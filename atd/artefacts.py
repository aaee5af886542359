"""Whether what a finished run left in its folder is there and whole: looked at, not remembered."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "detector_problem",
    "history_problem",
    "is_detector",
    "report_digests",
    "report_problem",
]

_REPORT = ("results.json", "report.md", "report.html", "scores.npz")
_PNG_END = b"IEND\xaeB`\x82"


def detector_problem(folder: Path) -> str:
    """What is missing or damaged in the detector folder of a finished run.

    Args:
        folder: The detector folder.

    Returns:
        One line that begins with the path; empty where nothing is wrong.
    """
    file, weights = folder / "config.json", folder / "model.safetensors"
    for path in (folder, file, weights, folder / "README.md"):
        if not path.exists():
            return f"{path}: missing"
    config = _json(file)
    if not config:
        return f"{file}: damaged"
    if config.get("threshold") is None:
        return f"{folder}: not evaluated to the end"
    digest = config.get("weights_sha256")
    whole = _sha256(weights) == digest if digest else _is_safetensors(weights)
    return "" if whole else f"{weights}: damaged"


def is_detector(folder: Path) -> bool:
    """Whether a folder says of itself that it is a detector's."""
    return "format" in _json(folder / "config.json")


def report_problem(folder: Path, digests: Mapping[str, str]) -> str:
    """What is missing or damaged in the report folder of a finished run.

    A report of another evaluation of the detector, which the user put in its place, stays.

    Args:
        folder: The report folder.
        digests: `report_digests` of when the run was finished; empty for runs of old versions.

    Returns:
        One line that begins with the path; empty where nothing is wrong.
    """
    for path in (folder, *(folder / name for name in _REPORT)):
        if not path.exists():
            return f"{path}: missing"
    results = _json(folder / "results.json")
    if not results or not isinstance(results.get("mean"), dict):
        return f"{folder / 'results.json'}: damaged"
    if digests and digests.get("date") == _date(results):
        for name, digest in digests.items():
            if name != "date" and not (folder / name).exists():
                return f"{folder / name}: missing"
            if name != "date" and _sha256(folder / name) != digest:
                return f"{folder / name}: damaged"
        return ""
    return next((f"{file}: damaged" for file in folder.iterdir() if not _looks_whole(file)), "")


def history_problem(file: Path) -> str:
    """What is missing or damaged in the `stats.jsonl` of a finished run, which nobody can repeat.

    Args:
        file: The file.

    Returns:
        One line that begins with the path; empty where nothing is wrong.
    """
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return f"{file}: missing"
    except OSError as error:
        return f"{file}: cannot be read ({error.strerror})"
    damaged = sum(not _is_object(line) for line in lines)
    if damaged or not lines:
        return f"{file}: {damaged} of {len(lines)} lines damaged"
    return ""


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def report_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a report by name, and its `date`, to compare with later."""
    files = sorted(file for file in folder.glob("*") if file.is_file())
    return {"date": _date(_json(folder / "results.json"))} | {
        file.name: _sha256(file) for file in files if not file.name.startswith(".")
    }


def _date(results: Mapping[str, Any]) -> str:
    provenance = results.get("provenance")
    return str(provenance.get("date")) if isinstance(provenance, dict) else ""


def _json(file: Path) -> dict[str, Any]:
    """What a JSON file holds; empty where it is damaged."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return ""


def _is_safetensors(file: Path) -> bool:
    """Whether header and size of a safetensors file agree; flipped bits are not seen."""
    try:
        with file.open("rb") as content:
            (length,) = struct.unpack("<Q", content.read(8))
            if length > file.stat().st_size:
                return False
            header = json.loads(content.read(length))
        ends = [item["data_offsets"][1] for key, item in header.items() if key != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error):
        return False
    return file.stat().st_size == 8 + length + max(ends, default=0)


def _looks_whole(file: Path) -> bool:
    """Whether a file of a report has a beginning and an end."""
    if not file.is_file():
        return True
    content = file.read_bytes()
    match file.suffix:
        case ".png":
            return content.endswith(_PNG_END)
        case ".html":
            return content.rstrip().endswith(b"</html>")
        case ".npz":
            return zipfile.is_zipfile(file)
    return bool(content.strip())
