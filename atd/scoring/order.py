"""What a person asks of `atd.score`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from atd.data.decoding import endings
from atd.errors import UserError, printable

__all__ = ["ScoreOrder"]

_MOST_EXPLAINED = 200


@dataclass(frozen=True, kw_only=True)
class ScoreOrder:
    """What is to be scored, how, and where it goes.

    Attributes:
        detector: A detector folder.
        images: Files, folders, or `-` for names on standard input.
        null: Names on standard input end with NUL.
        format: `csv` or `jsonl`.
        output: A file, which the same command goes on with; None for standard output.
        threshold: Instead of the detector's own, as it was written.
        device: `auto`, `cpu` or `cuda`.
        threads: Threads on the CPU; 0 for as many as there are cores.
        unreadable: What becomes of an image that cannot be read.
        p_values: Adds conformal p-values.
        watch: Goes on with images that come later.
        every: Images of a summary of drift; 0 makes one at the end.
        explain: How many of the most suspicious images are put on a page.
        page: That page.

    Raises:
        UserError: An option is impossible, or two do not go together.
    """

    detector: str
    images: Sequence[str]
    null: bool = False
    format: Literal["csv", "jsonl"] = "csv"
    output: str | None = None
    threshold: str | None = None
    device: str = "auto"
    threads: int = 0
    unreadable: Literal["row", "skip", "error"] = "row"
    p_values: bool = False
    watch: bool = False
    every: int = 0
    explain: int = 0
    page: str = "suspicious.html"

    def __post_init__(self) -> None:
        _require("threads", self.threads, 4096)
        _require("every", self.every, 10**9)
        _require("explain", self.explain, _MOST_EXPLAINED)
        self.limit(None)
        if self.watch and (self.output is not None or self.explain):
            other = "--explain" if self.output is None else "--output"
            raise UserError(f"--watch has no end and {other} is written at the end; leave one out")
        if self.watch and "-" in self.images and len(self.images) > 1:
            raise UserError("--watch: give either - or folders")

        for option, file in (("output", self.output), ("page", self.page)):
            if os.path.splitext(file or "")[1].lower() in endings():
                raise UserError(f"--{option} {printable(file or '')}: has the name of an image")

    def limit(self, stored: float | None) -> float | None:
        """The threshold: the one that was asked for, else the detector's own."""
        if self.threshold is None:
            return stored
        try:
            value = float(self.threshold)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UserError(f"--threshold {self.threshold}: give a number, e.g. --threshold 0.5")
        return value


def _require(name: str, value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise UserError(f"--{name} {value}: give a number from 1 to {most}, or 0")
