"""The page of `benchmarks.attack_budget`: robustness against seconds, as a table and a plot."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from atd.reporting.wording import attack_words
from benchmarks.recipe_runs import Record, Runs, of_recipe, spread

__all__ = ["budget_page", "draw_curves"]

_TOLERANCE = 0.005

_Seeds = dict[int, Record]


def budget_page(runs: Runs, budgets: dict[str, list[str]], plain: str) -> str:
    """The Markdown page.

    Args:
        runs: What the benchmark keeps.
        budgets: Options of the budgets, in the order of the rows.
        plain: The budget that the others are compared with.
    """
    found = {name: of_recipe(runs, name) for name in budgets}
    rows = [
        _row(f"{name} (`{' '.join(options)}`)", found[name], found[plain])
        for name, options in budgets.items()
        if found[name]
    ]
    attack = attack_words(next(iter(runs.values()))["attack"])
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

"""


def _row(title: str, runs: _Seeds, plain: _Seeds) -> str:
    pairs = [(runs[seed], plain[seed]) for seed in runs if seed in plain]
    reached = [_reached(mine["curve"], theirs["curve"]) for mine, theirs in pairs]
    own = [_reached(theirs["curve"], theirs["curve"]) for _, theirs in pairs]
    soon, sooner = "never", "-"
    if reached and all(value is not None for value in reached):
        soon = f"{mean(value or 0.0 for value in reached):.1f} s"
        sooner = f"{sum(v or 0.0 for v in own) / sum(v or 0.0 for v in reached):.1f}x"
    cells = [
        title,
        str(len(runs)),
        spread([run["seconds"] for run in runs.values()], 1),
        spread([run["clean"] for run in runs.values()], 3),
        spread([run["both"] for run in runs.values()], 3),
        spread([mine["both"] - theirs["both"] for mine, theirs in pairs], 4) if pairs else "-",
        soon,
        sooner,
    ]
    return f"| {' | '.join(cells)} |"


def _reached(curve: list[dict[str, float]], goal: list[dict[str, float]]) -> float | None:
    """Seconds until a curve first comes within the tolerance of the end of another."""
    enough = goal[-1]["both"] - _TOLERANCE
    return next((point["seconds"] for point in curve if point["both"] >= enough), None)


def draw_curves(runs: Runs, names: list[str], file: Path) -> None:
    """Draws the mean curve of every budget that has one, against seconds on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    styles = [("o", "-"), ("s", "--"), ("^", ":")]
    colours = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"]
    for at, name in enumerate(names):
        curves = [run["curve"] for run in of_recipe(runs, name).values()]
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
