"""The report folder of an evaluation: numbers, scores, pictures and a page to read.

Nothing here runs a model: everything is drawn from an `Evaluation`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atd.errors import UserError, printable
from atd.evaluation.results import Dataset, Means, Results
from atd.files import replacing
from atd.metrics import CONDITIONS
from atd.reporting.certificate import certified_words
from atd.reporting.output import write_json, write_page
from atd.reporting.page import page
from atd.reporting.plots import save_plots
from atd.reporting.wording import attack_words, aurocs, mean_words, stronger_words

if TYPE_CHECKING:
    from atd.evaluation.protocol import Evaluation

__all__ = ["rewrite_at_threshold", "summary_table", "write_report"]


def write_report(evaluation: Evaluation, folder: Path) -> Path:
    """Writes `results.json`, `scores.npz`, pictures, `report.html` and, last, `report.md`.

    Args:
        evaluation: What `evaluate` returned.
        folder: The report folder; made where it is missing.

    Returns:
        The path of `report.md`.

    Raises:
        UserError: There is a file where the folder is to be.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a file; name a folder for the report")
    write_json(folder / "results.json", evaluation.results.to_json())
    scores = {"id_val/clean": evaluation.id_val}
    for name, scored in {"id_test": evaluation.id_test, **evaluation.ood}.items():
        scores |= {f"{name}/clean": scored.clean, f"{name}/attacked": scored.attacked}
    with replacing(folder / "scores.npz") as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **scores)  # type: ignore[arg-type]
    save_plots(evaluation, folder)
    return write_page(page(evaluation.results), folder / "report.md")


def rewrite_at_threshold(evaluation: Evaluation, folder: Path) -> None:
    """Writes what a report says of the threshold anew, where that was set after the evaluation.

    Args:
        evaluation: Results at the new threshold, and scores.
        folder: The report folder, with its pictures.

    Raises:
        OSError: It cannot be written, or lacks a picture.
    """
    save_plots(evaluation, folder, only=("scores.png", "threshold.png"))
    write_page(page(evaluation.results), folder / "report.md")
    write_json(folder / "results.json", evaluation.results.to_json())


def summary_table(results: Results) -> str:
    """AUROC per set and on average, the baselines' averages and the verdict, for a terminal."""
    rows: list[tuple[str, Means | Dataset]] = list(results.datasets.items())
    rows.append((f"mean of {mean_words(results)}", results.mean))
    rows += [(f"{name} (mean)", item.mean) for name, item in results.baselines.items()]
    rows = [(printable(name), item) for name, item in rows]
    width = max(len(name) for name, _ in rows)
    lines = [
        f"AUROC in %; attack: {attack_words(results.attack)}",
        " " * width + "".join(f"{condition:>8}" for condition in CONDITIONS),
    ]
    lines += [f"{name:<{width}}" + "".join(f"{x:>8}" for x in aurocs(item)) for name, item in rows]
    lines += [f"left out: {line}" for line in results.left_out]
    lines += [words for words in (stronger_words(results), certified_words(results)) if words]
    return "\n".join(printable(line) for line in [*lines, results.verdict])
