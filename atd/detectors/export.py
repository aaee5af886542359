"""A detector as files that run without this package: a PyTorch program (.pt2) and ONNX.

Preprocessing lies inside the graph: the input is uint8 NCHW at any batch size, the output the
score. A file is only kept if it gives the scores of the detector it was made from.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional

import atd
from atd.attacks import pgd
from atd.detectors.base import Detector
from atd.errors import UserError, first_line
from atd.files import replacing_folder, require_ours
from atd.inference import as_float

__all__ = ["FILES", "Scorer", "export_detector", "trace"]

FILES = {"pt2": "detector.pt2", "onnx": "detector.onnx"}
_MAX_BATCH = 1024
_PARITY_BATCHES = (1, 2, 7, 64)
_ATTACKED = 8  # images attacked in each direction

Run = Callable[[Tensor], Tensor]


class Scorer(nn.Module):
    """What is exported: uint8 images (N, C, H, W) -> scores (N,), float32, larger = more OOD."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of uint8 images (N, C, H, W)."""
        return self.detector.logits(images.float() / 255)


def export_detector(
    source: str | Path | Detector, output: str | Path, formats: Sequence[str]
) -> Path:
    """Exports a detector, checks every file, and writes a manifest beside them.

    Args:
        source: The detector, or its folder.
        output: Folder to write; an older export there is replaced once the new one is complete.
        formats: Keys of `FILES`.

    Returns:
        The output folder.

    Raises:
        UserError: The detector cannot be loaded or exported, a format is unknown or needs
            packages that are missing, or `output` is a folder of something else.
        RuntimeError: A file does not give the detector's scores; nothing is kept.
    """
    output = Path(output)
    _check_formats(formats)
    require_ours(output, ours=_is_export, what="an export")
    detector = source if isinstance(source, Detector) else Detector.from_pretrained(source)
    reason = detector.info.exportable
    if reason is not True:
        raise UserError(f"kind {detector.kind} cannot be exported: {reason}")
    detector.require_fitted()
    try:
        with replacing_folder(output, ours=_is_export, what="an export") as fresh:
            manifest = _write_files(detector, fresh, formats)
            (fresh / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"{output}: cannot write the export: {error}") from None
    return output


def _is_export(folder: Path) -> bool:
    """Whether a folder holds an export and nothing else."""
    names = {entry.name for entry in folder.iterdir()}
    return "manifest.json" in names <= {"manifest.json", *FILES.values()}


def _check_formats(formats: Sequence[str]) -> None:
    unknown = [name for name in formats if name not in FILES]
    if unknown or not formats:
        raise UserError(f"--formats {','.join(unknown)}: choose from {','.join(FILES)}")
    needed = ("onnx", "onnxscript", "onnxruntime") if "onnx" in formats else ()
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'ONNX needs {", ".join(missing)}: pip install "atd[onnx]"')


def _write_files(detector: Detector, folder: Path, formats: Sequence[str]) -> dict[str, Any]:
    if any(module.training for module in detector.modules()) or detector.device.type != "cpu":
        detector = copy.deepcopy(detector).cpu()  # others may be using this one
    scorer = Scorer(detector).eval()
    probes = _probes(detector)
    with torch.no_grad():
        expected = {name: scorer(images) for name, images in probes.items()}
    program = trace(scorer, probes["batch 2"])
    files, parity = {}, {}
    for kind in formats:
        file = folder / FILES[kind]
        run = _save_pt2(program, file) if kind == "pt2" else _save_onnx(program, file, detector)
        parity[file.name] = _deviation(run, probes, expected, file.name)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        files[file.name] = {"sha256": digest, "bytes": file.stat().st_size}
    return {
        **_describe(detector),
        "files": files,
        "parity": {"tolerance": _tolerance(expected), "largest_deviation": parity},
    }


def _describe(detector: Detector) -> dict[str, Any]:
    config = detector.config
    return {
        "format": 1,
        "name": config.name,
        "kind": config.kind,
        "input": {
            "name": "images",
            "dtype": "uint8",
            "layout": "NCHW",
            "range": [0, 255],
            "shape": ["batch", config.channels, config.image_size, config.image_size],
            "batch": [1, _MAX_BATCH],
            "preprocessing": config.preprocessing.replace("values in [0, 1]", "values 0 to 255"),
        },
        "output": {"name": "score", "dtype": "float32", "shape": ["batch"]},
        "score_direction": config.score,
        "threshold": config.threshold,
        "threshold_note": config.threshold_note,
        "provenance": {
            **config.provenance,
            "exported_with": {"atd": atd.__version__, "torch": torch.__version__},
        },
    }


def trace(scorer: Scorer, example: Tensor) -> ExportedProgram:
    """Traces with two images: with one, torch would fix the batch size at one."""
    batch = Dim("batch", min=1, max=_MAX_BATCH)
    try:
        return torch.export.export(scorer, (example,), dynamic_shapes={"images": {0: batch}})
    except Exception as error:  # whatever the code of a foreign detector raises while traced
        name = scorer.detector.config.name
        raise UserError(f"{name}: torch.export cannot trace it: {first_line(error)}") from None


def _save_pt2(program: ExportedProgram, file: Path) -> Run:
    torch.export.save(program, file)
    loaded: Run = torch.export.load(file).module()
    return loaded


def _save_onnx(program: ExportedProgram, file: Path, detector: Detector) -> Run:
    import onnx
    import onnxruntime

    torch.onnx.export(
        program,
        (),
        file,
        input_names=["images"],
        output_names=["score"],
        external_data=False,
        verbose=False,
    )
    model = onnx.load(file)
    described = _describe(detector)
    facts = {
        "preprocessing": described["input"]["preprocessing"],
        **{key: described[key] for key in ("name", "kind", "score_direction")},
        **{key: described[key] for key in ("threshold", "threshold_note")},
    }
    onnx.helper.set_model_props(model, {key: str(value) for key, value in facts.items()})
    onnx.save(model, file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _probes(detector: Detector) -> dict[str, Tensor]:
    """Images to compare on: blobs with noise, and attacked ones, which lie near thresholds."""
    generator = torch.Generator().manual_seed(0)
    channels, size = detector.config.channels, detector.config.image_size
    probes = {}
    for count in _PARITY_BATCHES:
        noise = torch.rand(count, channels, size, size, generator=generator)
        coarse = torch.rand(count, channels, 4, 4, generator=generator)
        smooth = functional.interpolate(coarse, size=(size, size), mode="bilinear")
        rough = torch.rand(count, 1, 1, 1, generator=generator) ** 3
        probes[f"batch {count}"] = _as_uint8(smooth + rough * (noise - smooth))
    if detector.info.gradient != "none":
        images = as_float(probes[f"batch {max(_PARITY_BATCHES)}"][:_ATTACKED])
        climbed = detector.surrogate
        attacked = [
            pgd(objective, images, epsilon=8 / 255, steps=10).images
            for objective in (climbed, lambda images: -climbed(images))
        ]
        probes["attacked"] = _as_uint8(torch.cat(attacked))
    return probes


def _as_uint8(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8)


def _tolerance(expected: dict[str, Tensor]) -> float:
    """1e-4 standard deviations of the score, but never less than float32 rounding adds up to."""
    scores = torch.cat(list(expected.values()))
    return max(1e-4 * scores.std().item(), 1e-5 * scores.abs().max().item(), 1e-6)


def _deviation(
    run: Run, probes: dict[str, Tensor], expected: dict[str, Tensor], name: str
) -> dict[str, float]:
    tolerance = _tolerance(expected)
    found = {}
    for probe, images in probes.items():
        with torch.no_grad():
            scores = run(images)
        if scores.shape != expected[probe].shape:
            raise RuntimeError(f"{name}: {probe} gives scores of shape {tuple(scores.shape)}")
        found[probe] = (scores - expected[probe]).abs().max().item()
        if not found[probe] <= tolerance:
            raise RuntimeError(
                f"{name}: scores differ from the detector's by {found[probe]:.2g} on {probe} "
                f"(allowed {tolerance:.2g}); the export was deleted"
            )
    return found
