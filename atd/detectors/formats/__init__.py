"""The formats of an export: one file each, and a line here.

`write(traced, path)` writes a file, or a folder, and gives what was written as a function of a
batch of inputs, loaded as a stranger would load it.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atd.detectors.formats import onnx, pt2, web
from atd.detectors.formats.traced import Part, Run, Traced
from atd.errors import UserError, printable

__all__ = ["FORMATS", "Format", "check_formats"]

_ONNX = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Format:
    """How a detector is written.

    Attributes:
        path: Where it lies in the export, for a part of the detector.
        write: Writes it; see this module.
        packages: What it needs besides this package.
        install: What brings those packages.
        check: Raises a `UserError` where anything else is missing.
    """

    path: str
    write: Callable[[Traced, Path], Run]
    packages: tuple[str, ...] = ()
    install: str = 'pip install "atd[onnx]"'
    check: Callable[[], object] = tuple

    def name(self, part: Part) -> str:
        """File or folder within the export."""
        return self.path.format(part=part)


FORMATS = {
    "pt2": Format("{part}.pt2", pt2.write),
    "onnx": Format("{part}.onnx", onnx.write, _ONNX),
    "web": Format("web", web.write, _ONNX, check=web.runtime),
}


def check_formats(names: Sequence[str]) -> None:
    """Refuses formats that are unknown or need packages that are missing.

    Raises:
        UserError: There is such a format, or none at all.
    """
    known = ", ".join(FORMATS)
    for name in names:
        if name not in FORMATS:
            nearest = difflib.get_close_matches(name[:60], FORMATS, n=1, cutoff=0.0)[0]
            raise UserError(
                f"--formats {printable(name, 60)}: unknown; the nearest is {nearest} "
                f"(known: {known})"
            )
    if not names:
        raise UserError(f"--formats: name one or more of {known}")
    for name in names:
        missing = [item for item in FORMATS[name].packages if not importlib.util.find_spec(item)]
        if missing:
            raise UserError(
                f"--formats {name}: it needs {', '.join(missing)}: {FORMATS[name].install}"
            )
        FORMATS[name].check()
