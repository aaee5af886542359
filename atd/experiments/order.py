"""What `python -m atd.reproduce` was asked for; every experiment takes one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atd.experiments.setting import Setting

__all__ = ["Order"]


@dataclass(frozen=True, kw_only=True)
class Order:
    """One table or figure to make.

    Attributes:
        setting: The config and its scale.
        seeds: Seeds of its runs.
        output: The page; pictures and JSON go beside it under the same name.
        work: Where run folders go.
        data: Folder of the user's own image sets, for the experiment that reads them.
        kinds: Kinds of detectors that the user named; none means those of the experiment.
    """

    setting: Setting
    seeds: tuple[int, ...]
    output: Path
    work: Path
    data: Path | None = None
    kinds: tuple[str, ...] = ()
