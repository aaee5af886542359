"""The page of `benchmarks.attack_budget`: robustness against seconds, as a table and a plot."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev
from typing import Any

__all__ = ["budget_page", "draw_curves"]

_TOLERANCE = 0.005

_Runs = dict[int, dict[str, Any]]


def budget_page(done: dict[str, Any], names: list[str], plain: str) -> str:
    """The Markdown page.

    Args:
        done: What the benchmark keeps: `runs` by `budget/seed`, `provenance`, `command`.
        names: Budgets in the order of the rows.
        plain: The budget that the others are compared with.
    """
    found = {name: _seeds(done, name) for name in names}
    rows = [_row(name, found[name], found[plain]) for name in names if found[name]]
    origin, attack = done["provenance"], done["attack"]
    return f"""# How many attack steps the discriminator's training needs

AUROC with ID and OOD images attacked, mean over the far sets, on the backbone of each seed
({attack}).

*Seconds* are the processor's, of the training steps alone, with one thread. *Difference* is to the
first row, seed by seed; a budget counts as no loss where its mean is above -{_TOLERANCE}. *To the
first row's* tells how soon the curve (PGD-20 after every epoch) came within {_TOLERANCE} of where
the first row's curve ended, in every seed, and *sooner* how many times sooner than the first row
itself. The spread over seeds is larger than most differences.

| budget | seeds | seconds | clean | both | difference | to the first row's | sooner |
|---|---:|---:|---:|---:|---:|---:|---:|
{chr(10).join(rows)}

![robustness against training time](attack_budget.png)

    {done["command"]}

Commit {origin["commit"]}, {origin["date"]}, {origin["hardware"]}. Every run, with its curve, is in
the JSON file of the same name.
"""


def _seeds(done: dict[str, Any], name: str) -> _Runs:
    split = (key.rsplit("/", 1) for key in done["runs"])
    return {int(seed): done["runs"][f"{budget}/{seed}"] for budget, seed in split if budget == name}


def _row(name: str, runs: _Runs, plain: _Runs) -> str:
    options = " ".join(next(iter(runs.values()))["options"])
    pairs = [(runs[seed], plain[seed]) for seed in runs if seed in plain]
    reached = [_reached(mine["curve"], theirs["curve"]) for mine, theirs in pairs]
    own = [_reached(theirs["curve"], theirs["curve"]) for _, theirs in pairs]
    soon, sooner = "never", "-"
    if reached and all(value is not None for value in reached):
        soon = f"{mean(value or 0.0 for value in reached):.1f} s"
        sooner = f"{sum(v or 0.0 for v in own) / sum(v or 0.0 for v in reached):.1f}x"
    cells = [
        f"{name} (`{options}`)",
        str(len(runs)),
        _spread([run["seconds"] for run in runs.values()], 1),
        _spread([run["clean"] for run in runs.values()], 3),
        _spread([run["both"] for run in runs.values()], 3),
        _spread([mine["both"] - theirs["both"] for mine, theirs in pairs], 4) if pairs else "-",
        soon,
        sooner,
    ]
    return f"| {' | '.join(cells)} |"


def _reached(curve: list[dict[str, float]], goal: list[dict[str, float]]) -> float | None:
    """Seconds until a curve first comes within the tolerance of the end of another."""
    enough = goal[-1]["both"] - _TOLERANCE
    return next((point["seconds"] for point in curve if point["both"] >= enough), None)


def _spread(values: list[float], digits: int) -> str:
    text = f"{mean(values):.{digits}f}"
    return text + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def draw_curves(done: dict[str, Any], names: list[str], file: Path) -> None:
    """Draws the mean curve of every budget that has one, against seconds on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    styles = [("o", "-"), ("s", "--"), ("^", ":")]
    colours = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"]
    for at, name in enumerate(names):
        curves = [run["curve"] for run in _seeds(done, name).values()]
        if not curves:
            continue
        points = list(zip(*curves, strict=True))
        marker, line = styles[at // len(colours) % len(styles)]
        axes.plot(
            [mean(point["seconds"] for point in same) for same in points],
            [mean(point["both"] for point in same) for same in points],
            marker=marker,
            linestyle=line,
            color=colours[at % len(colours)],
            label=f"{name}, {len(curves)} seed{'s'[: len(curves) - 1]}",
        )
    axes.set_xscale("log")
    axes.set_xlabel("processor seconds of training steps")
    axes.set_ylabel("AUROC, both sides attacked (PGD-20)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
