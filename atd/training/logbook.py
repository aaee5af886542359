"""What a run leaves behind while it trains: `stats.jsonl`, TensorBoard files and rank logs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from atd.data.reading import notice
from atd.errors import UserError
from atd.files import replacing
from atd.training.rank_log import RankLog

__all__ = ["Logbook"]


class Logbook:
    """Writes scalars, histograms and images on the main process, and lines on all that keep a log.

    Args:
        folder: The run folder; None, as on all processes but the main one, writes nothing there.
        rank_log: This process's own log.
    """

    def __init__(self, folder: Path | None, rank_log: RankLog | None = None) -> None:
        self.folder = folder
        self.rank_log = rank_log or RankLog(None)
        self._writer: Any = None
        self._start = time.monotonic()

    def _tensorboard(self) -> Any:
        if self._writer is None and self.folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder / "tensorboard"))
        return self._writer

    def forget_after(self, stage: str, step: int) -> None:
        """Drops damaged lines and those of a stage beyond a step, which a resumed run writes again.

        Raises:
            UserError: There is a folder in the file's place.
        """
        if self.folder is None or not (file := self.folder / "stats.jsonl").exists():
            return
        if not file.is_file():
            raise UserError(f"{file}: is no file; move it away and run the same command again")
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        whole = [line for line in lines if _belongs(line, "", 0)]
        if len(whole) < len(lines):
            notice(f"{file}: {len(lines) - len(whole)} damaged line(s) left out")
        kept = [line for line in whole if _belongs(line, stage, step)]
        with replacing(file) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def scalars(
        self,
        stage: str,
        step: int,
        epoch: float,
        images: int,
        values: Mapping[str, float],
        at: float | None = None,
    ) -> None:
        """Logs numbers at a step of a stage.

        Args:
            stage: The stage.
            step: Steps done in it.
            epoch: Epochs done in it.
            images: Images seen in it.
            values: The numbers by name.
            at: When they arose, by `time.monotonic`; None is now.
        """
        if self.folder is None:
            return
        seconds = round((time.monotonic() if at is None else at) - self._start, 3)
        entry = {"stage": stage, "step": step, "epoch": epoch, "images": images}
        with (self.folder / "stats.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({**entry, "seconds": seconds, **values}) + "\n")
        for key, value in values.items():
            self._tensorboard().add_scalar(f"{stage}/{key}", value, step)

    def histogram(self, stage: str, name: str, values: Tensor, step: int) -> None:
        """Logs a histogram, e.g. of scores."""
        if self.folder is not None:
            self._tensorboard().add_histogram(f"{stage}/{name}", values, step)

    def images(self, stage: str, name: str, images: Tensor, step: int) -> None:
        """Logs images (N, C, H, W) in [0, 1] side by side."""
        if self.folder is not None:
            self._tensorboard().add_images(f"{stage}/{name}", images, step)

    def close(self) -> None:
        """Flushes and closes the files."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _belongs(line: str, stage: str, step: int) -> bool:
    """Whether a line is whole, and not of a stage beyond a step."""
    try:
        entry = json.loads(line)
        return bool(entry["stage"] != stage or entry["step"] <= step)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
