"""What the project set out to reach, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["CHEAPEST", "TARGETS", "Target", "targets"]

Measure = Literal["times", "share", "memory"]


@dataclass(frozen=True)
class Target:
    """A target: a row of a benchmark, what of it counts, and how much on each device."""

    what: str
    benchmark: str
    row: str
    measure: Measure
    cpu: float
    cuda: float


CHEAPEST = "ours, bfloat16, carried start, K = 3"
"""On the digits it ends as robust after as many epochs (docs/attack_budget.md)."""

TARGETS = (
    Target("ATD training step, K = 10", "train_step", "ours, bfloat16", "times", 3, 10),
    Target("time to equal robust AUROC", "train_step_digits", CHEAPEST, "times", 8, 20),
    Target("HAT pre-training step", "pretrain", "ours, bfloat16", "times", 2.5, 8),
    Target("PGD-100 evaluation", "scoring", "ours, finished images leave", "times", 2, 8),
    Target("share of the matrix ceiling", "train_step", "ours, bfloat16", "share", 0.5, 0.45),
    Target("peak memory of a step", "train_step", "ours, bfloat16", "memory", 1, 1),
)


def targets(found: Mapping[tuple[str, str], dict[str, Any]]) -> str:
    """The Markdown table of all targets."""
    lines = [
        "| what | row | CPU, target | CPU, measured | CUDA, target | CUDA, measured |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for target in TARGETS:
        cells = [f"{target.what} (`{target.benchmark}`)", target.row]
        for device, limit in (("cpu", target.cpu), ("cuda", target.cuda)):
            result = found.get((target.benchmark, device))
            cells += [_limit(target.measure, limit), _measured(target, result)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _limit(measure: Measure, value: float) -> str:
    match measure:
        case "times":
            return f"at least {value:g}x"
        case "share":
            return f"{100 * value:.0f} %"
        case "memory":
            return f"at most {value:g}x"


def _measured(target: Target, result: dict[str, Any] | None) -> str:
    rows = {row["name"]: row for row in result["rows"]} if result is not None else {}
    if target.row not in rows:
        return "-"
    row, base = rows[target.row], next(iter(rows.values()))
    match target.measure:
        case "times":
            return f"{row['times_faster']['median']:.2f}x"
        case "share":
            return f"{100 * row['matrix_share']:.0f} %"
        case "memory":
            return f"{row['peak_mib'] / base['peak_mib']:.2f}x" if "peak_mib" in row else "-"
