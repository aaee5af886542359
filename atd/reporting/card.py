"""The model card that travels with a detector, generated from its results."""

from __future__ import annotations

from atd.detectors.config import DetectorConfig
from atd.detectors.kinds import KINDS, kind_class
from atd.evaluation.results import Results
from atd.reporting.card_metadata import card_metadata
from atd.reporting.certificate import certified_words
from atd.reporting.kinds import paper_link
from atd.reporting.markdown import escaped, in_cell, verbatim
from atd.reporting.wording import (
    attack_words,
    aurocs,
    mean_words,
    percent,
    plural,
    radius_words,
    stronger_words,
)

__all__ = ["model_card"]


def model_card(results: Results, config: DetectorConfig) -> str:
    """Writes the README of a detector folder.

    Args:
        results: The results of an evaluation, schema 1.
        config: The detector's description, with how its threshold was set.

    Returns:
        Markdown, with a head that the Hugging Face Hub reads.
    """
    parts = [
        f"---\n{card_metadata(results).strip()}\n---",
        _head(results),
        _use(results, config),
        _expectation(results),
        _threat_model(results),
        *_certificate(results),
        _threshold(results, config),
        _limits(results),
    ]
    return "\n\n".join(parts) + "\n"


def _head(results: Results) -> str:
    return f"""# {escaped(results.detector.name)}

A detector of images unlike those of {verbatim(results.id.name)}: {_method(results)}.
It gives every image a score; larger = more likely out-of-distribution (OOD)."""


def _method(results: Results) -> str:
    """What the detector is, with its paper where it is of a kind of ours."""
    kind = results.detector.kind
    if kind not in KINDS:
        return escaped(kind)
    info = kind_class(kind).info
    return f"{info.title} (kind `{kind}`; {paper_link(info.paper)})"


def _use(results: Results, config: DetectorConfig) -> str:
    colour = "colour" if config.channels == 3 else "grey"
    side = config.image_size
    names = ", ".join(map(escaped, config.classes[:20])) + (", ..." if config.classes[20:] else "")
    classes = f" ({names})" if names else ""
    return f"""```python
import atd

detector = atd.load("PATH")  # the folder, or OWNER/NAME on the Hugging Face Hub
scores = detector.score(images)  # arrays, Pillow images or paths -> (N,)
flagged = detector.predict(images)  # score above the threshold
```

## Intended use

To notice images that a system made for {verbatim(results.id.name)}{classes} should not be trusted
with, also where somebody perturbs them to be taken for others. It sees {colour} images of
{side} x {side} pixels; larger ones are resized and cropped to that. It does not say what is in an
image, and is no sole safeguard where a wrong decision harms people."""


def _expectation(results: Results) -> str:
    rows = "\n".join(
        f"| {in_cell(escaped(name))} ({item.role}) | {' | '.join(aurocs(item))} |"
        for name, item in results.datasets.items()
    )
    failed = {name: check for name, check in results.checks.items() if not check.passed}
    said = "".join(f"\n* {escaped(name)}: {escaped(item.detail)}" for name, item in failed.items())
    words = stronger_words(results)
    return f"""## What to expect

AUROC in %, clean and with the ID images, the OOD images, or both attacked
({escaped(attack_words(results.attack))}):

| OOD set | {" | ".join(results.mean)} |
|---|{"---|" * len(results.mean)}
{rows}
| **mean of {in_cell(escaped(mean_words(results)))}** | {" | ".join(aurocs(results.mean))} |

Verdict of the attack's own {plural(len(results.checks), "check")}: {escaped(results.verdict)}.
{f"{escaped(words)}." if words else ""}{said}""".rstrip()


def _threat_model(results: Results) -> str:
    attack = results.attack
    norm = {"linf": "L-inf", "l2": "L2"}[attack.norm]
    return f"""## Threat model

The attacker knows the detector with its weights and this card, and changes the pixels that it sees
by at most {radius_words(attack.norm, attack.epsilon)} in {norm}, on the scale from 0 to 1:
ID images so that they are flagged, OOD images so that they pass. Other changes (rotation, blur,
patches, larger ones), images before they are resized, and poisoned training images were not
tried."""


def _certificate(results: Results) -> list[str]:
    words = certified_words(results)
    return [f"## Certificate\n\n{escaped(words[:1].upper() + words[1:])}."] if words else []


def _threshold(results: Results, config: DetectorConfig) -> str:
    limit = results.threshold
    return f"""## Threshold

Scores above {limit.value:.6g} are called OOD. How it was set: {escaped(config.threshold_note)}.
At it {percent(limit.tpr_clean)} % of clean ID test images pass, and {percent(limit.tpr_attacked)} %
of attacked ones; {percent(limit.fpr_clean)} % of clean and {percent(limit.fpr_attacked)} % of
attacked OOD images slip through."""


def _limits(results: Results) -> str:
    made = results.provenance
    return f"""## Limits

Numbers under attack are what these attacks found, not what no attack can: a better one may find
more. Images unlike any of the OOD sets above may behave otherwise, and so does another camera.

Judged with seed {made.seed} at commit {escaped(str(made.commit))}; all options, and the SHA-256 of
the weights, are in `config.json`."""
