"""Detectors from folders: config.json, model.safetensors, README.md.

A folder may come from a stranger: nothing in it is run, and nothing is built or allocated that
its own weights do not bound.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from atd.config.values import build
from atd.detectors.base import Detector
from atd.detectors.build import build_detector
from atd.detectors.calibration import CALIBRATION_FILE, CalibrationSample
from atd.detectors.config import FORMAT, DetectorConfig
from atd.detectors.weights import (
    Weights,
    bounded,
    is_double,
    open_weights,
    require_fit,
    require_sound,
)
from atd.errors import UserError
from atd.regular_files import read_regular

__all__ = ["is_detector_folder", "read_config", "read_detector"]

_LONGEST_CONFIG = 16 * 2**20
_LONGEST_CARD = 2**20
_ATTEMPTS = 100


def is_detector_folder(folder: Path) -> bool:
    """Whether a folder holds what `write_detector` writes, of any format."""
    try:
        values = json.loads(read_regular(folder / "config.json", _LONGEST_CONFIG))
        return isinstance(values, dict) and values.get("format") in range(1, FORMAT + 1)
    except (UserError, ValueError, RecursionError):
        return False


def read_detector(folder: Path) -> Detector:
    """Loads a detector folder onto the CPU, in evaluation mode; nothing is unpickled.

    Args:
        folder: A folder with `config.json` and `model.safetensors`.

    Returns:
        The detector.

    Raises:
        UserError: The folder is no detector, is damaged, or was made by a newer version.
    """
    with _opened(folder) as (config, weights, sample), torch.inference_mode(False):
        return _load(folder, config, weights, sample)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[tuple[DetectorConfig, Weights, CalibrationSample | None]]:
    """All files of one version of a folder, which may be replaced while it is read."""
    for attempt in range(_ATTEMPTS):
        before, last = _stamp(folder), attempt == _ATTEMPTS - 1
        with contextlib.ExitStack() as stack:
            try:
                config = read_config(folder)
                weights = stack.enter_context(open_weights(folder / "model.safetensors"))
                file = folder / CALIBRATION_FILE
                sample = CalibrationSample.read(file, config.calibration_sha256)
            except UserError:
                if last or _stamp(folder) == before:
                    raise
                continue
            if last or _stamp(folder) == before:
                yield config, weights, sample
                return


def _stamp(folder: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(folder / "config.json")
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _load(
    folder: Path, config: DetectorConfig, weights: Weights, sample: CalibrationSample | None
) -> Detector:
    # Fresh weights draw random numbers, which a reader should not notice.
    with torch.random.fork_rng(devices=[]):
        with torch.device("meta"), _Undrawn(), bounded(weights.numbers):
            require_fit(weights, _built(config, folder))
        detector = _built(config, folder)
    if config.weights_sha256 and weights.sha256 != config.weights_sha256:
        raise UserError(
            f"{weights.file}: damaged: its SHA-256 is not the one in config.json; copy the "
            "folder again"
        )
    if config.description_sha256 not in ("", config.described()):
        raise UserError(
            f"{folder / 'config.json'}: changed since the detector was saved, in kind, options, "
            "network or size; copy the folder again, or save the detector anew"
        )
    _fill(detector, weights)
    detector.calibration, detector.card = sample, _card(folder)
    require_sound(detector, weights.file)
    _try_out(detector.eval().requires_grad_(False), weights.file)
    return detector


class _Undrawn(TorchFunctionMode):
    """Fresh weights are left undrawn: on the meta device, drawing imports torch's compiler."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        drawn = function in (Tensor.normal_, Tensor.uniform_)
        if drawn or getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return function(*args, **(kwargs or {}))


def _built(config: DetectorConfig, folder: Path) -> Detector:
    try:
        return build_detector(config)
    except (UserError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None


@torch.no_grad()
def _fill(detector: Detector, weights: Weights) -> None:
    if is_double(weights.header):
        detector.double()
    for name, buffer in list(detector.named_buffers()):
        if buffer.numel() == 0 and name in weights.header:
            path, _, key = name.rpartition(".")
            sized = buffer.new_zeros(weights.header[name].shape)
            detector.get_submodule(path).register_buffer(key, sized)
    detector.load_state_dict({name: weights.read(name) for name in weights.header})


@torch.no_grad()
def _try_out(detector: Detector, file: Path) -> None:
    """One grey image: whatever does not fit together is found now, not by the first user."""
    detector.check(file)
    channels, size = detector.config.channels, detector.config.image_size
    dtype = next((v.dtype for v in detector.state_dict().values() if v.is_floating_point()), None)
    image = torch.full((1, channels, size, size), 0.5, dtype=dtype)
    try:
        score = detector(image)
    except (RuntimeError, ValueError, IndexError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise UserError(f"{file}: its tensors do not fit together: {first}") from None
    if score.shape != (1,) or not score.isfinite().all():
        raise UserError(f"{file}: damaged: a grey image has no finite score")


def _card(folder: Path) -> str:
    """The model card; it is for people, so one that cannot be read is no reason to stop."""
    try:
        return read_regular(folder / "README.md", _LONGEST_CARD).decode("utf-8")
    except (UserError, UnicodeDecodeError):
        return ""


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
    if not os.path.exists(folder):
        raise UserError(f"{folder}: no such folder")
    if not os.path.exists(file):
        inner = folder / "detector"
        hint = f"; did you mean {inner}?" if is_detector_folder(inner) else ""
        raise UserError(f"{folder}: not a detector folder (it has no config.json){hint}")
    content = read_regular(file, _LONGEST_CONFIG)
    try:
        values = json.loads(content.decode("utf-8"))
        json.dumps(values, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if isinstance(error, ValueError) else "nested too deep"
        raise UserError(f"{file}: cannot be read: {reason[:160]}") from None
    format_ = values.get("format") if isinstance(values, dict) else None
    if type(format_) is not int or not 1 <= format_ <= FORMAT:
        raise UserError(f"{file}: not a detector of format 1 or {FORMAT}; update atd")
    try:
        values = _from_format1(values) if format_ == 1 else values
        return build(DetectorConfig, values, "", stored=True, ignore_unknown=True)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None


def _from_format1(values: dict[str, Any]) -> dict[str, Any]:
    """Format 1 knew one kind only, with one option, and no digest of the weights."""
    if "normalisation" not in values:
        raise ValueError("normalisation is missing")
    options = {"normalisation": values["normalisation"]}
    described = {"kind": "atd", "options": options, "weights_sha256": "", "format": FORMAT}
    return {**values, **described}
