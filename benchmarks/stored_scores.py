"""AUROC of the scores that a run's evaluation had stored when it was stopped.

python -m benchmarks.stored_scores checkpoints/cifar10/scores.npz docs/results/cifar10_stored.md --id cifar10 --near cifar100
"""  # noqa: E501

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atd.config import Config, load
from atd.errors import UserError, run_command
from atd.evaluation.tiers import resolve_tier
from atd.files import write_text
from atd.metrics import auroc, mean_auroc_interval
from atd.reporting.table_parts import table
from atd.reporting.wording import member_words, percent, plural, radius_words

Side = npt.NDArray[np.float32]
Scores = Mapping[str, Side]

_SIDES = (("clean", "clean"), ("attacked", "clean"), ("clean", "attacked"), ("attacked",) * 2)
"""Of ID and of OOD images: nothing attacked, ID attacked, OOD attacked, both attacked."""


def main() -> None:
    run_command(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scores", type=Path, help="SET.clean and SET.attacked for every set")
    parser.add_argument("output", type=Path, help="the Markdown file")
    parser.add_argument("--id", required=True, help="the ID set")
    parser.add_argument("--near", nargs="*", default=[], help="near sets; all others are far")
    arguments = parser.parse_args()
    scores = scores_in(arguments.scores)
    lacking = [f"{name}.clean" for name in (arguments.id, *arguments.near)]
    if lacking := [name for name in lacking if name not in scores]:
        raise UserError(f"{arguments.scores}: has no {', '.join(lacking)}; check --id and --near")
    groups = groups_of(scores, arguments.id, arguments.near)
    words = f"{arguments.scores} {arguments.output} --id {arguments.id}"
    words += f" --near {' '.join(arguments.near)}" if arguments.near else ""
    rows = [[title, *_cells(scores, arguments.id, sets)] for title, sets in groups.items()]
    config = load(arguments.scores.with_name("config.yaml"))
    write_text(arguments.output, page(arguments.scores, attack_of(config), words, rows))


def scores_in(file: Path) -> Scores:
    """All arrays of the file."""
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def groups_of(scores: Scores, inside: str, near: list[str]) -> dict[str, list[str]]:
    """The sets behind every row: all far ones, then each for itself."""
    sets = sorted(
        name.removesuffix(".attacked")
        for name in scores
        if name.endswith(".attacked") and name != f"{inside}.attacked"
    )
    far = [name for name in sets if name not in near]
    each = {f"{name} ({'near' if name in near else 'far'})": [name] for name in sets}
    return {f"**mean of {plural(len(far), 'far set')}**": far, **each}


def pairs_of(scores: Scores, inside: str, sets: list[str]) -> list[list[tuple[Side, Side]]]:
    """ID and OOD scores of the sets: clean, ID attacked, OOD attacked, both attacked."""
    return [
        [(scores[f"{inside}.{side}"], scores[f"{name}.{other}"]) for name in sets]
        for side, other in _SIDES
    ]


def mean_auroc(pairs: list[tuple[Side, Side]]) -> float:
    """Mean over the sets."""
    return sum(auroc(*pair) for pair in pairs) / len(pairs)


def _cells(scores: Scores, inside: str, sets: list[str]) -> list[str]:
    cells = [f"{min(len(scores[f'{name}.attacked']) for name in sets):,}"]
    for pairs in pairs_of(scores, inside, sets):
        low, high = mean_auroc_interval(pairs)
        cells.append(f"{percent(mean_auroc(pairs))} [{percent(low)}, {percent(high)}]")
    return cells


def attack_of(config: Config) -> str:
    """The attack of a run's evaluation in a phrase."""
    tier = resolve_tier(config.evaluate)
    radius = radius_words(config.evaluate.norm, config.evaluation_epsilon)
    norm = {"linf": "L-inf", "l2": "L2"}[config.evaluate.norm]
    members = " + ".join(member_words(str(member)) for member in tier.members)
    return f"{members}, {norm}, epsilon {radius}"


def page(file: Path, attack: str, words: str, rows: list[list[str]]) -> str:
    """The document."""
    titles = ["OOD set", "images", "clean", "ID attacked", "OOD attacked", "both attacked"]
    return f"""# {file.parent.name}: stored scores

AUROC in %, with 95 % bootstrap intervals, of the scores in `{file}`, which the evaluation of a
run had found when it was stopped, before its checks: none stands behind these numbers.
Attack: {attack}.

{table(titles, rows)}

    python -m benchmarks.stored_scores {words}
"""


if __name__ == "__main__":
    main()
