"""Every recipe with every seed: what is finished is kept as JSON, and a page follows every run."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from atd.config import Config, load
from atd.experiments.missing import Record, Runs
from atd.experiments.missing import run_missing as run_missing_rows
from atd.reporting.wording import measured_on

__all__ = ["Record", "Runs", "footer", "of_recipe", "parser", "run_missing", "spread"]

Recipes = Mapping[str, list[str]]


def parser(description: str, recipes: Recipes, *, name: str, flag: str) -> argparse.ArgumentParser:
    """The options of a benchmark that compares recipes.

    Args:
        description: Its docstring.
        recipes: Options of the config that each recipe changes, by name.
        name: The benchmark's name, also of its work folder.
        flag: What chooses recipes, e.g. `--arms`.
    """
    options = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=description.splitlines()[0]
    )
    options.set_defaults(command=options.prog)
    options.add_argument("--config", default="configs/digits.yaml")
    options.add_argument("--output", type=Path, required=True, help="the Markdown page")
    options.add_argument("--work", type=Path, default=Path("checkpoints") / name)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument(
        flag, dest="recipes", nargs="+", choices=recipes, default=list(recipes), metavar="NAME"
    )
    options.add_argument("overrides", nargs="*", metavar="key=value")
    return options


def run_missing(
    arguments: argparse.Namespace,
    recipes: Recipes,
    measure: Callable[[str, Config], Record],
    page: Callable[[Runs], str],
    *,
    common: tuple[str, ...] = (),
) -> None:
    """Measures each recipe with each seed that the JSON file beside the page lacks.

    Args:
        arguments: From `parser`.
        recipes: As for `parser`.
        measure: Trains a recipe by its config and tells what came of it.
        page: The page of all runs so far.
        common: Options of every recipe; those of the command line win over them.
    """

    def configure(recipe: str, seed: int) -> Config:
        return load(arguments.config, overrides_of(recipe, seed))

    def overrides_of(recipe: str, seed: int) -> list[str]:
        return [*common, *arguments.overrides, *recipes[recipe], f"run.seed={seed}"]

    def told(recipe: str, config: Config) -> Record:
        overrides = overrides_of(recipe, config.run.seed)
        return {**measure(recipe, config), "overrides": overrides}

    run_missing_rows(
        arguments.output,
        arguments.recipes,
        arguments.seeds,
        configure=configure,
        measure=told,
        page=page,
    )


def of_recipe(runs: Runs, recipe: str) -> dict[int, Record]:
    """The runs of a recipe by seed."""
    split = {key: key.rsplit("/", 1) for key in runs}
    return {int(seed): runs[key] for key, (name, seed) in split.items() if name == recipe}


def spread(values: list[float], digits: int = 3) -> str:
    """Mean and, of several values, standard deviation."""
    text = f"{statistics.mean(values):.{digits}f}"
    return text + (f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def footer(arguments: argparse.Namespace, runs: Runs) -> str:
    """The command of a page, and the code and hardware on which its runs were measured."""
    command = f"{arguments.command} --config {arguments.config} --output {arguments.output}"
    return f"""    {" ".join([command, *arguments.overrides])}

Every run is in the JSON file of the same name, with its options:

{measured_on([run.get("provenance") for run in runs.values()])}
"""
