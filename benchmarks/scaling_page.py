"""The document of `benchmarks.scaling`."""

from __future__ import annotations

from typing import Any

__all__ = ["NAMES", "page"]

_TITLES = {
    "hat_ghosts": "HAT step, ghost batches",
    "hat": "HAT step, whole batch",
    "atd": "ATD step",
    "evaluation": "attacked evaluation",
}
NAMES = tuple(_TITLES)


def page(found: dict[str, Any]) -> str:
    """The Markdown of what `benchmarks.scaling` found."""
    effort, facts = found["effort"], found["provenance"]
    size = effort["size"]
    rows = "\n".join(_row(title, found["throughput"][name]) for name, title in _TITLES.items())
    return f"""# One process and two

Images per second of the product's own steps, one thread a process, gloo on one machine:
PreActResNet-18 of width {size["width"]}, {size["image_size"]} px, {size["steps"]} attack steps,
{effort["batch"]} images a step over all processes (ATD: {effort["batch"]} ID images and as many
outliers), {effort["rounds"]} rounds of one, two, separate. Medians; in brackets the quartiles of
the ratios round by round. The separate jobs exchange nothing, have half of the batch each and run
at the same time: they show what the machine has to give. The last column is the share of a step of
two processes that goes to exchanges, waiting for the other process included. Ghost batches
(`pretrain.ghost_batch`) are of {size["ghost_batch"]} images here, and an evaluation attacks
{size["scoring_batch"]} images at once (`evaluate.batch_size`).

| work | 1 process | 2 processes | 2 separate | 2 against 1 | 2 against separate | exchanges % |
|---|---:|---:|---:|---:|---:|---:|
{rows}

    python -m benchmarks.scaling --output docs/scaling.md

Commit {facts["commit"]}, {facts["date"]}, {facts["hardware"]}, torch {facts["versions"]["torch"]}.
"""


def _row(title: str, item: dict[str, Any]) -> str:
    rates = [f"{item[side]['median']:.2f}" for side in ("one", "two", "separate")]
    spreads = [
        f"{item[key]['median']:.2f} ({item[key]['low']:.2f} to {item[key]['high']:.2f})"
        for key in ("speedup", "of_separate")
    ]
    cells = [title, *rates, *spreads, f"{100 * item['exchanges']['share']:.1f}"]
    return f"| {' | '.join(cells)} |"
