"""The model card that travels with a detector, generated from its results."""

from __future__ import annotations

from atd.detectors.kinds import KINDS, kind_class
from atd.evaluation.results import Results
from atd.reporting.kinds import paper_link
from atd.reporting.markdown import escaped, in_cell, verbatim
from atd.reporting.wording import attack_words, mean_words, percent, stronger_words

__all__ = ["model_card"]


def model_card(results: Results) -> str:
    """Writes the README of a detector folder.

    Args:
        results: The results of an evaluation, schema 1.

    Returns:
        Markdown.
    """
    mean, limit = results.mean, results.threshold
    stronger = f" {escaped(words)}." if (words := stronger_words(results)) else ""
    rows = "\n".join(
        f"| {in_cell(escaped(name))} | {' | '.join(percent(item[key]['auroc']) for key in mean)} |"
        for name, item in results.datasets.items()
    )
    average = " | ".join(percent(item["auroc"]) for item in mean.values())
    return f"""# {escaped(results.detector.name)}

A detector of images unlike those of {verbatim(results.id.name)}: {_method(results)}.
It gives every image a score; larger = more likely out-of-distribution.

```python
import atd

detector = atd.Detector.from_pretrained("PATH")
scores = detector.score(images)  # (N, C, H, W), uint8 or float in [0, 1] -> (N,)
flagged = detector.predict(images)  # score above {limit.value:.4g}
```

## What to expect

AUROC in %, clean and with the ID images, the OOD images, or both attacked
({escaped(attack_words(results.attack))}):

| OOD set | {" | ".join(mean)} |
|---|{"---|" * len(mean)}
{rows}
| **mean of {in_cell(escaped(mean_words(results)))}** | {average} |

At the stored threshold {percent(limit.tpr_clean)} % of clean ID test images pass, and
{percent(limit.tpr_attacked)} % of attacked ones; {percent(limit.fpr_clean)} % of clean and
{percent(limit.fpr_attacked)} % of attacked OOD images slip through.

Verdict of the attack's own checks: {escaped(results.verdict)}.{stronger}

## Limits

The numbers hold for this attack, norm and radius; other changes (rotation, blur, patches) were not
tried. Images unlike any of the OOD sets above may behave otherwise.

Made with seed {results.provenance.seed} at commit {escaped(str(results.provenance.commit))};
all options are in `config.json`.
"""


def _method(results: Results) -> str:
    """What the detector is, with its paper where it is of a kind of ours."""
    kind = results.detector.kind
    if kind not in KINDS:
        return escaped(kind)
    info = kind_class(kind).info
    return f"{info.title} (kind `{kind}`; {paper_link(info.paper)})"
