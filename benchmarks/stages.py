"""Pre-training that several runs share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from atd.backbones.base import Backbone
from atd.pipeline import Run, stages_of

__all__ = ["copy_stages", "pretrained"]


def pretrained(run: Run) -> Backbone | None:
    """The backbone of a run that was given its image sets; its folder may be shared by others.

    Args:
        run: The run; only the stages before the detector's are gone through.

    Returns:
        The backbone of the best epoch; None where the config has none.
    """
    run.folder.state.mkdir(parents=True, exist_ok=True)
    for stage in stages_of(run.config):
        if stage.makes in ("helper", "backbone"):
            stage.work(run)
    return run.backbone


def copy_stages(source: Path, target: Path, stages: Iterable[str] = ("helper", "pretrain")) -> None:
    """Copies finished pre-training stages between run folders; a run with them starts at ATD.

    Args:
        source: Run folder that may hold finished stages.
        target: Run folder that gets those it lacks.
        stages: The stages.
    """
    for stage in stages:
        file = source / "state" / f"{stage}.safetensors"
        copy = target / "state" / file.name
        if file.exists() and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
