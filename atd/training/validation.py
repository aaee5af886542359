"""How well a detector in training tells held-out images apart, clean and attacked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from atd.attacks import pgd
from atd.config import AtdConfig
from atd.data.fetching import batches
from atd.data.images import ImageSet
from atd.detectors.atd import ATD
from atd.inference import filled, frozen
from atd.training.logbook import Logbook
from atd.training.processes import Processes

__all__ = ["validate"]


def validate(
    detector: ATD,
    sides: Sequence[ImageSet],
    config: AtdConfig,
    processes: Processes,
    logbook: Logbook,
    step: int,
) -> dict[str, float]:
    """Attacks both sides with PGD of the training strength, and notes their scores.

    Args:
        detector: The detector.
        sides: Held-out ID images and outliers.
        config: Radius and steps of the attack, and whether the training is adversarial.
        processes: The processes that share the work.
        logbook: Where the scores' histograms and some attacked images go.
        step: The step of training, for the logbook.

    Returns:
        `val_auroc`, `val_auroc_attacked` and `selection`, by which the best epoch is chosen: the
        attacked one in an adversarial training. NaN alone where a score is not a finite number.
    """
    from sklearn.metrics import roc_auc_score

    clean, attacked = [], []
    for images, direction, side in zip(sides, (1.0, -1.0), ("id", "outlier"), strict=True):
        scores, worst, examples = _scores(detector, images, direction, config, processes)
        clean.append(scores)
        attacked.append(worst)
        logbook.histogram("atd", f"score_{side}", scores, step)
        logbook.histogram("atd", f"score_{side}_attacked", worst, step)
        logbook.images("atd", f"attacked_{side}", examples, step)
    labels = [0] * len(clean[0]) + [1] * len(clean[1])
    columns = torch.cat(clean), torch.cat(attacked)
    if not all(column.isfinite().all() for column in columns):
        return {"selection": float("nan")}
    auroc, robust = (float(roc_auc_score(labels, column.numpy())) for column in columns)
    selection = robust if config.adversarial else auroc
    return {"val_auroc": auroc, "val_auroc_attacked": robust, "selection": selection}


def _scores(
    detector: ATD,
    images: ImageSet,
    direction: float,
    config: AtdConfig,
    processes: Processes,
) -> tuple[Tensor, Tensor, Tensor]:
    """Clean scores, attacked scores and example images."""
    rows: list[tuple[float, float]] = []
    examples, logits = torch.zeros(0), filled(detector.logits)
    with frozen(detector):
        for pixels, _, _ in batches(images, processes.turns(len(images))):
            x = pixels.to(processes.device).float() / 255
            outcome = pgd(
                lambda batch: direction * logits(batch),
                x,
                epsilon=config.epsilon,
                steps=max(10, config.steps),
            )
            with torch.no_grad():
                clean = logits(x)
            rows += zip(clean.tolist(), (direction * outcome.values).tolist(), strict=True)
            examples = outcome.images[:8].cpu()
    table = torch.tensor(processes.gather(rows), dtype=torch.float64)
    return table[:, 0], table[:, 1], examples
