"""Pre-training that several runs share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from atd.backbones.base import Backbone
from atd.pipeline import Run
from atd.training.logbook import Logbook

__all__ = ["Pretraining", "copy_stages"]


class Pretraining(Run):
    """A run, given its image sets, that ends with its backbone."""

    def pretrained(self) -> Backbone | None:
        """The backbone of the best epoch; None where the config has none."""
        assert self.splits is not None
        self.folder.state.mkdir(parents=True, exist_ok=True)
        return self._backbone(self.splits, Logbook(None))


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
