"""atd: adversarially trained out-of-distribution detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atd.api import Detector, External, Report, evaluate, fit, load

__all__ = ["Detector", "External", "Report", "__version__", "evaluate", "fit", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Loads the Python interface on first use: commands start without importing torch."""
    if name in __all__:
        from atd import api

        return getattr(api, name)
    raise AttributeError(f"module 'atd' has no attribute {name!r}")
