"""Who notices: DAAIN's heads and two plain scores, on every input that is not as in training."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from atd.detectors.base import Detector
from atd.detectors.daain import DAAIN, DAAINOptions
from atd.detectors.fitting import FitData
from atd.metrics import auroc, metrics
from benchmarks.segmentation.scenes import Scenes

__all__ = ["detectors", "fitted", "map_auroc", "table_of"]

Score = Callable[[Tensor], Tensor]


def fitted(network: nn.Module, scenes: Scenes, options: DAAINOptions, seed: int = 0) -> DAAIN:
    """DAAIN on a segmentation network."""
    none = torch.full((len(scenes.images),), -1)
    batches = list(zip(scenes.images.split(64), none.split(64), strict=True))
    detector = DAAIN(network, options, image_size=scenes.images.shape[-1], name="DAAIN").eval()
    return detector.fit(FitData(id=batches), seed=seed).requires_grad_(False)


def detectors(detector: DAAIN) -> dict[str, Score]:
    """DAAIN with each head on one flow, and MSP and MaxLogit averaged over pixels."""
    found: dict[str, Score] = {
        f"DAAIN, {head}": _with_head(detector, head).score
        for head in ("nll", "euclidean", "histogram")
    }
    network = detector.backbone

    def msp(images: Tensor) -> Tensor:
        return -network(images).softmax(1).amax(1).mean((1, 2))

    def max_logit(images: Tensor) -> Tensor:
        return -network(images).amax(1).mean((1, 2))

    return found | {"MSP": msp, "MaxLogit": max_logit}


def _with_head(detector: DAAIN, head: str) -> Detector:
    other = copy.deepcopy(detector)
    other.options = dataclasses.replace(detector.options, head=head)
    return other


@torch.no_grad()
def table_of(
    scores: Mapping[str, Score], inside: Tensor, anomalies: Mapping[str, Tensor]
) -> dict[str, dict[str, dict[str, float]]]:
    """AUROC, AUPR (anomalies positive) and FPR95 (share of ID flagged) by anomaly and score."""
    known = {name: score(inside).numpy() for name, score in scores.items()}
    table: dict[str, dict[str, dict[str, float]]] = {}
    for anomaly, images in anomalies.items():
        table[anomaly] = {}
        for name, score in scores.items():
            found = metrics(known[name], score(images).numpy(), resamples=10)
            kept = ("auroc", "aupr_out", "fpr95_ood")
            table[anomaly][name] = {key: float(found[key]) for key in kept}  # type: ignore[literal-required]
    return table


@torch.no_grad()
def map_auroc(detector: DAAIN, scenes: Scenes) -> dict[str, float]:
    """How well pixels of unknown objects stand out, within each image, averaged over images."""
    logits = detector.backbone(scenes.images)
    maps = {
        "DAAIN, map": detector.score_map(scenes.images),
        "MSP": -logits.softmax(1).amax(1),
        "MaxLogit": -logits.amax(1),
    }
    unknown = scenes.labels < 0
    rows = [row for row in range(len(unknown)) if unknown[row].any()]
    return {
        name: float(np.mean([auroc(m[row][~unknown[row]], m[row][unknown[row]]) for row in rows]))
        for name, m in maps.items()
    }
