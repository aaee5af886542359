"""ONNX in one file, which tells in its metadata how it is to be used."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from atd.detectors.formats.traced import Run, Traced
from atd.errors import UserError

__all__ = [
    "DEFAULT_OPSET",
    "OPSETS",
    "check_opset",
    "describe",
    "facts",
    "graph_file",
    "load",
    "write",
]

OPSETS = range(18, 24)
"""Versions of ONNX' operators that torch writes itself, without converting."""
DEFAULT_OPSET = 20


def check_opset(opset: int) -> None:
    """Refuses a version of ONNX' operators that torch does not write.

    Raises:
        UserError: It is too low or too high.
    """
    if opset not in OPSETS:
        raise UserError(f"--opset {opset}: choose one from {OPSETS[0]} to {OPSETS[-1]}")


def write(traced: Traced, file: Path) -> Run:
    """Writes the file and loads it with ONNX Runtime."""
    shutil.copyfile(graph_file(traced), file)
    describe(file, traced.description)
    return load(file)


def graph_file(traced: Traced) -> Path:
    """The graph without metadata, in the folder for what is not kept; made once."""
    import onnx

    file = traced.scratch / "graph.onnx"
    if file.exists():
        return file
    torch.onnx.export(
        traced.program,
        (),
        file,
        input_names=[traced.scorer.takes],
        output_names=["score"],
        opset_version=traced.opset,
        external_data=False,
        verbose=False,
    )
    model = onnx.load(file)
    (written,) = [item.version for item in model.opset_import if not item.domain]
    if written != traced.opset:
        raise UserError(f"--opset {traced.opset}: torch wrote {written}; use --opset {written}")
    _name_batch(model.graph)
    onnx.save(model, file)
    return file


def describe(file: Path, description: dict[str, Any], precision: str = "float32") -> None:
    """Writes into a file's metadata how it is to be used."""
    import onnx

    model = onnx.load(file)
    onnx.helper.set_model_props(model, {**facts(description), "precision": precision})
    onnx.save(model, file)


def _name_batch(graph: Any) -> None:
    """Calls the batch what the manifest calls it, not `s34`."""
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def load(file: Path) -> Run:
    """A file as a function, run by ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: torch.from_numpy(session.run(None, {name: inputs.numpy()})[0])


def facts(description: dict[str, Any]) -> dict[str, str]:
    """What a file's metadata say; of the threshold only where there is one."""
    keys = ("name", "kind", "score_direction", "threshold", "threshold_note")
    found = {key: description[key] for key in keys}
    if found["threshold"] is None:
        del found["threshold"]
    found["preprocessing"] = description["input"]["preprocessing"]
    return {key: str(value) for key, value in found.items()}
