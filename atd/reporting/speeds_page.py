"""The page of how fast every kind of detector scores."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from atd.detectors.kinds import KINDS, kind_class
from atd.evaluation.results import Provenance
from atd.records import to_json
from atd.reporting.markdown import escaped
from atd.reporting.wording import measured_on, plural

__all__ = ["Speed", "Speeds", "speeds_page"]


@dataclass(frozen=True)
class Speed:
    """Images per second of `score`: a detector's, and MSP's on the same backbone beside it."""

    images_per_second: float
    of_msp: float


@dataclass(frozen=True)
class Speeds:
    """What one run of the command found.

    Attributes:
        config: The config file.
        overrides: Options given on the command line.
        backbone: The network in one phrase.
        images: Images that were scored together.
        size: Their side in pixels.
        threads: Threads of torch.
        speeds: By kind.
        refused: Kinds that could not be made, with the reason.
        provenance: Where the numbers come from.
    """

    config: str
    overrides: tuple[str, ...]
    backbone: str
    images: int
    size: int
    threads: int
    speeds: Mapping[str, Speed]
    refused: Mapping[str, str]
    provenance: Provenance


def speeds_page(found: Speeds) -> str:
    """The page in Markdown."""
    lines = [
        "| `detector.kind` | passes | gradient | images/s | MSP's | MSP is faster by |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for kind in (kind for kind in KINDS if kind in found.speeds):
        info, speed = kind_class(kind).info, found.speeds[kind]
        lines.append(
            f"| `{kind}` | {info.passes:g} | {info.gradient} | {speed.images_per_second:,.0f} | "
            f"{speed.of_msp:,.0f} | {speed.of_msp / speed.images_per_second:.1f} |"
        )
    lines += [
        f"| `{kind}` | | | refused: {escaped(reason).replace('|', '/')} | | |"
        for kind, reason in found.refused.items()
    ]
    table = "\n".join(lines)
    words = (
        f"python -m atd.reproduce speeds --config {shlex.join([found.config, *found.overrides])}"
    )
    return f"""# How fast every kind scores

Images per second of `score`, {found.images} images of {found.size} px at once,
{plural(found.threads, "thread")}, one process, all in one go. Each kind takes turns with MSP on the
same backbone and the same images, and the best of three turns counts. The backbone is
{escaped(found.backbone)}.
Training and fits are of one epoch and 600 ID images at most, which changes the speed of `knn`
alone, whose time grows with its bank.

{table}

    {words}

{measured_on([to_json(found.provenance)])}
"""
