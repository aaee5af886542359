"""The report folder of an evaluation: numbers, scores, pictures and a page to read.

Nothing here runs a model: everything is drawn from an `Evaluation`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atd.evaluation.checks import TRUSTED
from atd.evaluation.files import replacing
from atd.evaluation.plots import save_plots
from atd.evaluation.wording import attack_words, fraction_255, percent, plural

if TYPE_CHECKING:
    from atd.evaluation.protocol import Evaluation

__all__ = ["page", "summary_table", "write_report"]

_CONDITIONS = ("clean", "in", "out", "both")
_ROLES = {
    "far": "far",
    "near": "near",
    "validation": "also chose the best epoch",
}


def write_report(evaluation: Evaluation, folder: Path) -> Path:
    """Writes `results.json`, `scores.npz`, the pictures and, last, `report.md`.

    Args:
        evaluation: What `evaluate` returned.
        folder: The report folder; made where it is missing.

    Returns:
        The path of `report.md`.
    """
    _write(folder / "results.json", json.dumps(evaluation.results, indent=2, allow_nan=False))
    scores = {"id_val/clean": evaluation.id_val}
    for name, scored in {"id_test": evaluation.id_test, **evaluation.ood}.items():
        scores |= {f"{name}/clean": scored.clean, f"{name}/attacked": scored.attacked}
    with replacing(folder / "scores.npz") as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **scores)  # type: ignore[arg-type]
    save_plots(evaluation, folder)
    _write(folder / "report.md", page(evaluation.results))
    return folder / "report.md"


def _write(file: Path, text: str) -> None:
    with replacing(file) as temporary:
        temporary.write_text(text.rstrip() + "\n", encoding="utf-8")


def summary_table(results: Mapping[str, Any]) -> str:
    """AUROC per set and on average, the baselines' averages and the verdict, for a terminal."""
    rows = [(name, item) for name, item in results["datasets"].items()]
    rows.append((f"mean of {_mean_name(results)}", results["mean"]))
    rows += [(f"{name} (mean)", item) for name, item in results["baselines"].items()]
    width = max(len(name) for name, _ in rows)
    lines = [
        f"AUROC in %; attack: {attack_words(results['attack'])}",
        " " * width + "".join(f"{condition:>8}" for condition in _CONDITIONS),
    ]
    for name, item in rows:
        cells = "".join(f"{percent(item[condition]['auroc']):>8}" for condition in _CONDITIONS)
        lines.append(f"{name:<{width}}{cells}")
    return "\n".join([*lines, results["verdict"]])


def page(results: Mapping[str, Any]) -> str:
    """The report as Markdown.

    Args:
        results: The results of an evaluation, schema 1.

    Returns:
        The page; it refers to the pictures beside it.
    """
    sections = (
        _headline,
        _main_table,
        _threshold,
        _pictures,
        _baselines,
        _detail_table,
        _checks,
        _provenance,
    )
    return "\n\n".join(text for section in sections if (text := section(results)))


def _headline(results: Mapping[str, Any]) -> str:
    name, mean, radius = results["detector"]["name"], results["mean"], results["attack"]["epsilon"]
    return f"""# {name}

Shown one image of {results["id"]["name"]} and one of something else, **{name}** gives the other
one the higher score in **{percent(mean["clean"]["auroc"])} %** of cases. When an attacker may
change every pixel of both images by up to {fraction_255(radius)}, it still does in
**{percent(mean["both"]["auroc"])} %**. Guessing gives 50 %.

{_verdict(results)}"""


def _verdict(results: Mapping[str, Any]) -> str:
    count = plural(len(results["checks"]), "check")
    if results["verdict"] == TRUSTED:
        return f"These robustness numbers can be trusted as far as {count} of the attack can tell."
    return f"> **Warning.** The robustness numbers are {results['verdict']}. See *Checks*."


def _main_table(results: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{item['images']:,}", _ROLES[item["role"]], *_aurocs(item)]
        for name, item in results["datasets"].items()
    ]
    rows.append(
        [f"**mean of {_mean_name(results)}**", "", "", *map(_bold, _aurocs(results["mean"]))]
    )
    if results["mean_near"]:
        rows.append(["mean of near sets", "", "", *_aurocs(results["mean_near"])])
    head = ["OOD set", "images", "role", "clean", "in", "out", "both"]
    images = plural(results["id"]["images"], "image")
    return f"""## AUROC (%)

{_table(head, rows, text=(0, 2))}

In-distribution: {results["id"]["name"]} ({images}). *clean*: nothing is attacked; *in*: the ID
images are; *out*: the OOD images are; *both*: each is. Attack: {attack_words(results["attack"])},
on the detector's raw score, the worst of all iterates counting for every image."""


def _threshold(results: Mapping[str, Any]) -> str:
    block = {key: percent(share) for key, share in results["threshold"].items() if key != "value"}
    attack = attack_words(results["attack"])
    return f"""## At the threshold

Images that score above **{results["threshold"]["value"]:.4g}** are flagged. That value lets 95 %
of held-out ID images pass. On the test images it accepts {block["tpr_clean"]} % of the ID images
and lets {block["fpr_clean"]} % of the OOD images ({_mean_name(results)} pooled) slip through.
Under attack ({attack}) it accepts {block["tpr_attacked"]} % of the ID images, and
{block["fpr_attacked"]} % of the OOD images slip through."""


def _pictures(results: Mapping[str, Any]) -> str:
    attack = attack_words(results["attack"])
    return f"""## Pictures

![Score histograms, unchanged and attacked](scores.png)

![ROC curves, unchanged and attacked](roc.png)

![Adversarial examples: image, magnified change, attacked image](examples.png)

Attack in all pictures: {attack}. On ID images it raises the score, on OOD images it lowers it."""


def _baselines(results: Mapping[str, Any]) -> str:
    if not results["baselines"]:
        return ""
    rows = [[_bold(results["detector"]["name"]), *map(_bold, _aurocs(results["mean"]))]]
    rows += [[name, *_aurocs(item)] for name, item in results["baselines"].items()]
    return f"""## Other scores of the same backbone

AUROC (%), mean of {_mean_name(results)}; each score is attacked itself, end to end, with
{attack_words(results["attack"])}.

{_table(["score", *_CONDITIONS], rows)}"""


def _detail_table(results: Mapping[str, Any]) -> str:
    keys = ("fpr95_id", "fpr95_ood", "aupr_in", "aupr_out", "detection_error")
    rows = []
    for name, item in {
        **results["datasets"],
        f"mean of {_mean_name(results)}": results["mean"],
    }.items():
        for condition in _CONDITIONS:
            values = item[condition]
            interval = " to ".join(map(percent, values.get("auroc_ci", ())))
            label = name if condition == "clean" else ""
            numbers = [percent(values["auroc"]), interval, *(percent(values[key]) for key in keys)]
            rows.append([label, condition, *numbers])
    head = ["OOD set", "attacked", "AUROC", "95 % interval", "FPR95 (ID)", "FPR95 (OOD)"]
    head += ["AUPR-in", "AUPR-out", "detection error"]
    return f"""## Every metric (%)

{_table(head, rows, text=(0, 1))}

FPR95 (ID): share of OOD images accepted when 95 % of ID images are. FPR95 (OOD): share of ID
images flagged when 95 % of OOD images are. AUPR: area under precision-recall with ID or OOD as
the positive class. Detection error: the smallest (FPR + FNR) / 2 over all thresholds. Intervals:
bootstrap over the images. Attack: {attack_words(results["attack"])}."""


def _checks(results: Mapping[str, Any]) -> str:
    rows = [
        [
            "passed" if check["passed"] else "**FAILED**",
            name,
            _value(check["value"]),
            check["detail"],
        ]
        for name, check in results["checks"].items()
    ]
    return f"""## Checks

A weak attack makes any detector look robust. Verdict: **{results["verdict"]}**.

{_table(["", "check", "value", "what it means"], rows, text=(0, 1, 3))}"""


def _value(value: float | Sequence[Sequence[float]]) -> str:
    if isinstance(value, Sequence):
        return ", ".join(f"{fraction_255(radius)}: {auroc:.3f}" for radius, auroc in value)
    return f"{value:.4g}"


def _provenance(results: Mapping[str, Any]) -> str:
    origin, attack = results["provenance"], results["attack"]
    versions = ", ".join(f"{name} {version}" for name, version in origin["versions"].items())
    rows = [
        ["commit", origin["commit"] or "not from a git checkout"],
        ["config SHA-256", origin["config_sha256"] or "no config"],
        ["parameters", f"{results['detector']['parameters']:,}"],
        ["seed", str(origin["seed"])],
        ["hardware", origin["hardware"]],
        ["versions", versions],
        ["took", f"{origin['seconds']:,} s"],
        ["date", origin["date"]],
    ]
    options = (
        f"evaluate.epsilon={attack['epsilon']} evaluate.steps={attack['steps']} "
        f"evaluate.restarts={attack['restarts']} run.seed={origin['seed']}"
    )
    return f"""## Where this comes from

    python evaluate.py {results["detector"]["path"] or "DETECTOR"} {options}

{_table(["", ""], rows, text=(0, 1))}

All numbers are in `results.json`, the raw scores of every image in `scores.npz`."""


def _mean_name(results: Mapping[str, Any]) -> str:
    names = results["mean_over"]
    roles = {results["datasets"][name]["role"] for name in names}
    kind = "far " if roles == {"far"} else ""
    return plural(len(names), f"{kind}set")


def _aurocs(item: Mapping[str, Any]) -> list[str]:
    return [percent(item[condition]["auroc"]) for condition in _CONDITIONS]


def _bold(text: str) -> str:
    return f"**{text}**"


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, text: Sequence[int] = (0,)
) -> str:
    """A Markdown table; columns named in `text` are flush left, the others flush right."""
    rule = ["---" if column in text else "---:" for column in range(len(head))]
    lines = [head, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
