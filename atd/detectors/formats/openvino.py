"""OpenVINO: detector.xml with detector.bin beside it, for Intel's runtime."""

from __future__ import annotations

from pathlib import Path

import torch

from atd.detectors.formats import onnx
from atd.detectors.formats.traced import Run, Traced

__all__ = ["write"]


def write(traced: Traced, file: Path) -> Run:
    """Writes both files and compiles them for the CPU."""
    import openvino

    model = openvino.convert_model(onnx.graph_file(traced))
    for key, value in onnx.facts(traced.description).items():
        model.set_rt_info(value, ["atd", key])
    openvino.save_model(model, file, compress_to_fp16=False)
    # Without this, CPUs that can compute in bfloat16 do.
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: torch.from_numpy(compiled([inputs.numpy()])[0].copy())
