"""The user's own detector, named on the command line as `import:MODULE:CALLABLE`."""

from __future__ import annotations

from torch import nn

from atd.detectors.base import Detector
from atd.detectors.external import External
from atd.errors import UserError
from atd.own_code import call_own_code, find_callable

__all__ = ["import_detector"]


def import_detector(
    words: str, *, image_size: int | None = None, channels: int | None = None
) -> Detector:
    """Imports one's own detector, from the working directory too; run only because it was named.

    Args:
        words: `import:MODULE:CALLABLE`. The callable takes no arguments and returns a detector,
            or a module that gives scores (N,); or it is itself such an object.
        image_size: Side of an image in pixels, for a module that is no `Detector`.
        channels: 3 or 1, likewise.

    Returns:
        The detector, in evaluation mode.

    Raises:
        UserError: There is no such module or callable, it fails, returns something else, or it
            is not known what images it takes.
    """
    name = words.removeprefix("import:")
    found = find_callable(name, "detector")
    if isinstance(found, type) or not isinstance(found, nn.Module):
        found = call_own_code(name, "detector")
    if not isinstance(found, Detector):
        if not callable(found) or isinstance(found, type):
            kind = type(found).__name__
            raise UserError(
                f"{words}: gives a {kind}; return a detector, e.g. atd.External(module)"
            )
        if image_size is None or channels is None:
            raise UserError(
                f"{words}: gives a {type(found).__name__}, which does not say what images it "
                "takes; return atd.External(module, image_size=..., channels=...), or give "
                "data.image_size=... and data.channels=..."
            )
        title = name.rpartition(":")[2]
        found = External(found, image_size=image_size, channels=channels, name=title)
    found.require_fitted()
    return found.eval().requires_grad_(False)
