"""Pre-training that several runs share."""

from __future__ import annotations

from pathlib import Path

__all__ = ["copy_stages"]


def copy_stages(source: Path, target: Path) -> None:
    """Copies finished pre-training stages between run folders; a run with them starts at ATD.

    Args:
        source: Run folder that may hold finished stages.
        target: Run folder that gets those it lacks.
    """
    for stage in ("helper", "pretrain"):
        file = source / "state" / f"{stage}.safetensors"
        copy = target / "state" / file.name
        if file.exists() and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
