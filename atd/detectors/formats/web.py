"""A page that scores pictures in the reader's own browser: a folder that any static host serves.

The page's own files lie in `page/`. ONNX Runtime for browsers, 14 MB of WebAssembly, is taken from
npm's package `onnxruntime-web`, which whoever exports has installed.
"""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atd.data.sampler import evenly_spaced
from atd.detectors.base import Detector
from atd.detectors.formats import onnx
from atd.detectors.formats.manifest import MANIFEST, digests
from atd.detectors.formats.traced import Run, Scorer, Traced
from atd.errors import UserError

__all__ = ["probes", "runtime", "write"]

_VERSION = "1.30.0"
_RUNTIME = {
    "ort.wasm.bundle.min.mjs": "onnxruntime.js",
    "ort-wasm-simd-threaded.wasm": "onnxruntime.wasm",
}
_MODEL = "detector.onnx"
_MOST_SCORES = 10_000


def write(traced: Traced, folder: Path) -> Run:
    """Writes the page with its detector, and loads what the page will load.

    Raises:
        UserError: `onnxruntime-web` is not installed, or not all of a detector is exported.
    """
    if not isinstance(traced.scorer, Scorer):
        raise UserError("--formats web: the page scores pictures; leave --part out")
    package = runtime()
    page = resources.files("atd.detectors.formats") / "page"
    with resources.as_file(page) as source:
        shutil.copytree(source, folder, copy_function=shutil.copyfile)
    for name, copied in _RUNTIME.items():
        shutil.copyfile(package / "dist" / name, folder / copied)
    run = onnx.write(traced, folder / _MODEL)
    manifest = _manifest(traced, folder, package)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    return run


def runtime() -> Path:
    """The folder of `onnxruntime-web`, sought as Node seeks it: here and in the folders above.

    Raises:
        UserError: It is not installed.
    """
    for above in (Path.cwd(), *Path.cwd().parents):
        package = above / "node_modules" / "onnxruntime-web"
        if all((package / "dist" / name).is_file() for name in _RUNTIME):
            return package
    raise UserError(
        "--formats web: it needs ONNX Runtime for browsers in node_modules: "
        f"npm install --no-save --ignore-scripts onnxruntime-web@{_VERSION}"
    )


def _manifest(traced: Traced, folder: Path, package: Path) -> dict[str, Any]:
    version = json.loads((package / "package.json").read_text("utf-8"))["version"]
    detector, shape = traced.detector, traced.description["input"]["shape"][1:]
    images = probes(*shape[:2])
    with torch.no_grad():
        expected = traced.scorer(images)
    # A browser's WebAssembly rounds otherwise than this machine does, by less than this.
    tolerance = max(1e-4 * expected.abs().max().item(), 1e-4)
    return {
        **traced.description,
        "classes": detector.config.classes,
        "runtime": {"onnxruntime-web": version},
        "calibration": {"scores": _thinned(detector)},
        "check": {"scores": expected.tolist(), "tolerance": tolerance},
        "files": digests(folder),
    }


def _thinned(detector: Detector) -> list[float]:
    """Calibration scores in order, thinned out evenly where there are many."""
    sample = detector.calibration
    if sample is None:
        return []
    scores = sample.scores.sort().values
    found: list[float] = scores[evenly_spaced(len(scores), _MOST_SCORES)].tolist()
    return found


def probes(channels: int, size: int) -> Tensor:
    """A ramp and noise (2, C, S, S), uint8: the page makes them too, and so tries its browser."""
    pixel = torch.arange(channels * size * size)
    ramp = pixel * 255 // (len(pixel) - 1 or 1)
    noise = (pixel * 7919 + (pixel * pixel) % 104729) % 256
    return torch.stack([ramp, noise]).to(torch.uint8).reshape(2, channels, size, size)
