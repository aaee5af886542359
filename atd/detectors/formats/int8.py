"""ONNX rounded to int8 by the user's images; no longer the network that was attacked.

Convolutions compute in 8 bits (static, QDQ, weights per channel), the rest in float32. Weights take
7 of their bits: on CPUs without VNNI the products of 8 would overflow and scores be others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from atd.data.reading import notice
from atd.detectors.formats import onnx, reattack
from atd.detectors.formats.own_images import OwnImages
from atd.detectors.formats.traced import Run, Traced

__all__ = ["judge", "write"]

_BATCH = 16
_WORK = 1e13
"""Operations that the attacks on one network may take: a minute or two on two cores."""
_LEAST, _MOST = 16, 200  # images attacked of each side


class _Batches:
    """The calibration images as ONNX Runtime asks for them."""

    def __init__(self, images: Tensor) -> None:
        self._parts: Iterator[Tensor] = iter(images.split(_BATCH))

    def get_next(self) -> dict[str, Any] | None:
        part = next(self._parts, None)
        return None if part is None else {"images": part.numpy()}


def write(traced: Traced, file: Path) -> Run:
    """Rounds the ONNX file and loads it with ONNX Runtime."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    images = _images(traced)
    prepared = traced.scratch / "prepared.onnx"
    # Symbolic shapes are for transformers, and fail on scores of a single operator.
    quant_pre_process(onnx.graph_file(traced), prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
        prepared,
        file,
        _Batches(images.calibration),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        reduce_range=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    onnx.describe(file, traced.description, "int8")
    return onnx.load(file)


def judge(traced: Traced, run: Run, work: float) -> dict[str, Any]:
    """What rounding cost, clean and under attack, beside the same of the float32 detector.

    Args:
        traced: What was written.
        run: The rounded file.
        work: Floating-point operations of an image.
    """
    images = _images(traced)
    count = int(min(_MOST, max(_LEAST, _WORK / (2 * reattack.PASSES * max(work, 1)))))
    sides = reattack.Sides(_spread(images.inside, count), _spread(images.outside, count))
    detector = traced.detector
    slope = None if detector.info.gradient == "none" else detector.surrogate
    levels, threshold = reattack.recorded_levels(detector.config.training), detector.threshold
    found = {
        "calibration": {"name": images.inside_name, "images": len(images.calibration)},
        "attack": reattack.attack_facts(levels),
        "id": {"name": images.inside_name, "images": len(sides.inside)},
        "ood": {"name": images.outside_name, "images": len(sides.outside)},
        **{
            name: reattack.judged(form, slope, sides, levels, threshold, f"attacking {name}")
            for name, form in (("float32", traced.scorer), ("int8", run))
        },
    }
    notice(_told(found))
    if threshold is not None:
        notice(_told_of_threshold(found))
    return found


def _told(found: dict[str, Any]) -> str:
    """The numbers in a line."""
    numbers = [
        f"{name} {found[name]['clean']['auroc']:.3f} clean, {found[name]['both']['auroc']:.3f} "
        "attacked"
        for name in ("int8", "float32")
    ]
    images = f"{found['id']['images']} ID, {found['ood']['images']} OOD images"
    epsilon = found["attack"]["epsilon"]
    return f"AUROC of {'; '.join(numbers)} ({images}, L-infinity {epsilon}; see manifest.json)"


def _told_of_threshold(found: dict[str, Any]) -> str:
    """What the threshold, which is the float32 detector's, does in either file."""
    shares = [
        f"{name} "
        + ", ".join(
            f"{side['id_called_id']:.1%} / {side['ood_called_id']:.1%} {when}"
            for side, when in ((found[name]["clean"], "clean"), (found[name]["both"], "attacked"))
        )
        for name in ("int8", "float32")
    ]
    return f"at the threshold so many ID / OOD images are called ID: {'; '.join(shares)}"


def _images(traced: Traced) -> OwnImages:
    assert traced.images is not None, "check_formats has seen to it"
    return traced.images


def _spread(images: Tensor, count: int) -> Tensor:
    """So many of the images, spread over all of them."""
    return images[:: max(1, len(images) // count)][:count]
