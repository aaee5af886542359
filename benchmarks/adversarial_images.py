"""Confounding-label gradients on attacks of the classifier and on OOD sets, under three protocols.

    python -m benchmarks.adversarial_images DETECTOR --config configs/digits.yaml

The anomalies are adversarial images of the detector's own classifier (FGSM, BIM, PGD, margin,
iterative least-likely, negative) and the config's OOD test sets. Of every set one half fits and the
other half is judged on. The same detector is fitted anew for each anomaly and protocol: to the
run's outliers only, to all the other anomalies, and to the anomaly itself, which is the paper's
protocol and an upper bound that no user reaches. None of the attacks knows of the detector.

This is a benchmark and no part of an evaluation: an evaluation judges a detector as it is, and two
of the three protocols fit a new one for each set.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import atd
from atd.attacks.classifier import CLASSIFIER_ATTACKS, adversarial_images
from atd.backbones.base import Backbone
from atd.config import load
from atd.data.images import ImageSet
from atd.data.splits import load_splits
from atd.detectors.confounding_gradients import ConfoundingGradients, ConfoundingGradientsOptions
from atd.detectors.fitting import FitData
from atd.errors import UserError, run_command
from atd.files import write_text
from atd.inference import as_float
from atd.metrics import auroc
from atd.provenance import provenance

__all__ = ["PROTOCOLS", "adversarial_sets", "page", "protocol_rows", "table"]

PROTOCOLS = ("outliers", "leave_one_out", "anomaly")
_CHUNK = 128

Rows = dict[str, dict[str, float]]
"""AUROC by anomaly and protocol."""


def adversarial_sets(
    backbone: Backbone, images: Tensor, labels: Tensor | None, *, epsilon: float, steps: int
) -> dict[str, Tensor]:
    """The images under each attack of the classifier, by the attack's name.

    Args:
        backbone: The classifier.
        images: Images (N, C, H, W) in [0, 1].
        labels: Their classes (N,).
        epsilon: Radius in L-infinity.
        steps: Steps of the iterative attacks.
    """
    parts = list(zip(images.split(_CHUNK), _split(labels, len(images)), strict=True))
    return {
        attack: torch.cat(
            [
                adversarial_images(
                    backbone, part, attack, labels=known, epsilon=epsilon, steps=steps
                )
                for part, known in parts
            ]
        )
        for attack in CLASSIFIER_ATTACKS
    }


def _split(labels: Tensor | None, count: int) -> Sequence[Tensor | None]:
    if labels is None or bool((labels < 0).any()):
        return [None] * -(-count // _CHUNK)
    return labels.split(_CHUNK)


def protocol_rows(
    backbone: Backbone,
    inside: Tensor,
    anomalies: Mapping[str, Tensor],
    outliers: Tensor,
    *,
    seed: int = 0,
    **options: object,
) -> Rows:
    """Fits and judges the detector for every anomaly under every protocol.

    Args:
        backbone: The classifier whose gradients are read.
        inside: ID images (N, C, H, W) in [0, 1] that the classifier was not trained on.
        anomalies: Other images by name, two sets or more.
        outliers: Outliers that belong to no anomaly.
        seed: Of the fits.
        options: Options of the detector, e.g. `epochs=20`.
    """
    fitted, judged = inside[::2], inside[1::2]
    rows: Rows = {name: {} for name in anomalies}
    for protocol in PROTOCOLS:
        known: ConfoundingGradients | None = None
        for name, images in anomalies.items():
            others = [other[::2] for key, other in anomalies.items() if key != name]
            if known is None or protocol != "outliers":
                given = {
                    "outliers": outliers,
                    "leave_one_out": torch.cat(others),
                    "anomaly": images[::2],
                }[protocol]
                known = _fit(backbone, fitted, given, seed, {**options, "protocol": protocol})
            scores = known.score(judged).numpy(), known.score(images[1::2]).numpy()
            rows[name][protocol] = auroc(*scores)
    return rows


def _fit(
    backbone: Backbone, inside: Tensor, outside: Tensor, seed: int, options: dict[str, object]
) -> ConfoundingGradients:
    detector = ConfoundingGradients(
        copy.deepcopy(backbone),
        ConfoundingGradientsOptions(**options),  # type: ignore[arg-type]
        image_size=inside.shape[-1],
        channels=inside.shape[1],
    ).eval()
    data = FitData(id=_unlabelled(inside), outliers=_unlabelled(outside))
    return detector.fit(data, seed=seed)


def _unlabelled(images: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(part, torch.full((len(part),), -1)) for part in images.split(_CHUNK)]


def table(rows: Rows) -> str:
    """AUROC in per cent as a table in Markdown."""
    lines = [
        "| anomaly | fitted on outliers only | on the other anomalies | on itself (paper) |",
        "|---|---:|---:|---:|",
    ]
    for name, row in rows.items():
        cells = " | ".join(f"{100 * row[protocol]:.1f}" for protocol in PROTOCOLS)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def _floats(images: ImageSet, count: int) -> Tensor:
    return as_float(images.take(count, 0).fetch(range(min(count, len(images)))))


def main() -> None:
    run_command(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("detector", help="a detector folder, whose classifier is read")
    parser.add_argument("--config", default="configs/digits.yaml", help="the image sets")
    parser.add_argument("--epsilon", type=float, default=8 / 255)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--images", type=int, default=400, help="of each set")
    parser.add_argument("--output", type=Path, default=Path("docs/confounding_gradients.md"))
    parser.add_argument("overrides", nargs="*", help="options of the config, e.g. loader.workers=0")
    arguments = parser.parse_intermixed_args()
    started = time.monotonic()
    splits = load_splits(load(arguments.config, arguments.overrides))
    backbone = atd.load(arguments.detector).backbone
    if backbone is None:
        raise UserError(f"{arguments.detector}: it has no backbone, whose gradients could be read")
    chosen = splits.id_test.take(arguments.images, 0)
    inside = _floats(chosen, arguments.images)
    labels = chosen.labels
    attack = {"epsilon": arguments.epsilon, "steps": arguments.steps}
    anomalies = adversarial_sets(backbone, inside, labels, **attack)
    anomalies |= {name: _floats(each, arguments.images) for name, each in splits.ood_test.items()}
    rows = protocol_rows(
        backbone, inside, anomalies, _floats(splits.outlier_train, arguments.images)
    )
    facts = provenance(None, seed=0, seconds=time.monotonic() - started)
    words = f"python -m benchmarks.adversarial_images DETECTOR --config {arguments.config}"
    told = f"--epsilon {arguments.epsilon} --steps {arguments.steps} --images {arguments.images}"
    record = {
        "auroc": rows,
        **attack,
        "images": len(inside),
        "command": " ".join([words, told, *arguments.overrides]),
        "provenance": facts,
    }
    write_text(arguments.output.with_suffix(".json"), json.dumps(record, indent=2) + "\n")
    write_text(arguments.output, page(record))


def page(record: Mapping[str, Any]) -> str:
    """The page of what the JSON file beside it holds."""
    facts = record["provenance"]
    return f"""# What confounding-label gradients notice

AUROC in percent of a detector whose perceptron was fitted to outliers that are not tested on, to
all other anomalies of the table, or to the very anomaly that is tested. The last is the paper's
protocol and an upper bound: nobody has the anomaly beforehand. {record["images"]} ID images and as
many of each anomaly, half of them for the fit. Adversarial images are made against the classifier,
in L-infinity {record["epsilon"]:.4f} with {record["steps"]} steps, and know nothing of the
detector; what is left of it when it is attacked itself is in [detectors.md](detectors.md).

{table(record["auroc"])}

    {record["command"]}

Commit {facts["commit"]}, {facts["hardware"]}, {facts["seconds"]} s, {facts["date"]}.
"""


if __name__ == "__main__":
    main()
