"""A detector in each form that runs it, as a function of uint8 arrays (N, C, H, W).

As a program it is a start: it scores one image, says so, scores a batch, and tells its memory.
Nothing is imported before it is needed, since that is what a start costs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FILES", "Run", "load"]

Run = Callable[[Any], Any]

FILES = {
    "eager": "",
    "compiled": "",
    "pt2": "detector.pt2",
    "onnx": "detector.onnx",
    "onnx-int8": "detector-int8.onnx",
}
"""The file of an export that each form reads; those without one read the detector folder."""


def load(form: str, detector: Path, export: Path) -> Run:
    """A form on one thread."""
    file = export / FILES[form]
    return _onnx(file) if form.startswith("onnx") else _torch(form, detector, file)


def _torch(form: str, detector: Path, file: Path) -> Run:
    import torch

    torch.set_num_threads(1)
    if form == "pt2":
        module: Any = torch.export.load(file).module()
    else:
        import atd
        from atd.detectors.formats.traced import Scorer

        module = Scorer(atd.load(detector)).eval()
        if form == "compiled":
            module = torch.compile(module, dynamic=True)

    def run(images: Any) -> Any:
        with torch.no_grad():
            return module(torch.from_numpy(images)).numpy()

    return run


def _onnx(file: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def _start(form: str, detector: str, export: str, *shape: str) -> None:
    run = load(form, Path(detector), Path(export))
    batch, *size = map(int, shape)
    for count in (1, batch):
        run(np.zeros((count, *size), np.uint8))
        print(_peak_mib(), flush=True)


def _peak_mib() -> float:
    """The most memory so far; `getrusage` would count that of the process it was forked from."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
    return int(line) / 1024


if __name__ == "__main__":
    _start(*sys.argv[1:])
