"""atd: adversarially trained out-of-distribution detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atd.detectors.base import Detector

__all__ = ["Detector", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Loads `atd.Detector` on first use, so that commands start without importing torch."""
    if name == "Detector":
        from atd.detectors.base import Detector

        return Detector
    raise AttributeError(f"module 'atd' has no attribute {name!r}")
