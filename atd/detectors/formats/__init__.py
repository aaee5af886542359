"""The formats of an export: one file each, and a line here.

`write(traced, path)` writes a file, or a folder, and gives what was written as a function of a
batch of inputs, loaded as a stranger would load it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atd.detectors.formats import int8, onnx, openvino, pt2, web
from atd.detectors.formats.traced import Part, Run, Traced
from atd.errors import UserError, nearest, printable

__all__ = ["FORMATS", "Format", "check_formats"]

_ONNX = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Format:
    """How a detector is written.

    Attributes:
        path: Where it lies in the export, for a part of the detector.
        write: Writes it; see this module.
        packages: What it needs besides this package, as pip calls it.
        check: Raises a `UserError` where anything else is missing.
        judge: For a format whose scores are not the detector's own: what the manifest says of them,
            given what was written and the floating-point operations of an image.
        parts: What can be written so.
    """

    path: str
    write: Callable[[Traced, Path], Run]
    packages: tuple[str, ...] = ()
    check: Callable[[], object] = tuple
    judge: Callable[[Traced, Run, float], dict[str, Any]] | None = None
    parts: tuple[Part, ...] = ("detector", "discriminator")

    def name(self, part: Part) -> str:
        """File or folder within the export."""
        return self.path.format(part=part)


FORMATS = {
    "pt2": Format("{part}.pt2", pt2.write),
    "onnx": Format("{part}.onnx", onnx.write, _ONNX),
    "onnx-int8": Format(
        "detector-int8.onnx", int8.write, _ONNX, judge=int8.judge, parts=("detector",)
    ),
    "openvino": Format("{part}.xml", openvino.write, (*_ONNX, "openvino")),
    "web": Format("web", web.write, _ONNX, check=web.runtime, parts=("detector",)),
}


def check_formats(names: Sequence[str], part: Part, *, images: bool) -> None:
    """Refuses formats that are unknown or lack something.

    Args:
        names: The formats.
        part: What is exported.
        images: Whether the user named images of their own.

    Raises:
        UserError: A format is unknown, needs packages or images that are missing, or is not one of
            this part; or there is none at all.
    """
    for name in names:
        if name not in FORMATS:
            raise UserError(
                f"--formats {printable(name, 60)}: unknown; the nearest is "
                f"{nearest(name, FORMATS)} (known: {', '.join(FORMATS)})"
            )
    if not names:
        raise UserError(f"--formats: name one or more of {', '.join(FORMATS)}")
    for name in names:
        form = FORMATS[name]
        if part not in form.parts:
            raise UserError(f"--formats {name}: not for --part {part}, which takes no images")
        if form.judge and not images:
            raise UserError(
                f"--formats {name}: give ID images to round the network by: --calibration IMAGES"
            )
        missing = [item for item in form.packages if not importlib.util.find_spec(item)]
        if missing:
            raise UserError(f"--formats {name}: more is needed: pip install {' '.join(missing)}")
        form.check()
