"""Detectors judged on a run's image sets: one with its baselines, or several side by side."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from atd.backbones.base import Backbone
from atd.config import Config
from atd.data.images import FIT_IMAGES, batches
from atd.data.splits import DataSplits
from atd.detectors.base import Detector
from atd.detectors.baselines import build_baseline
from atd.errors import UserError
from atd.evaluation.cache import fingerprint
from atd.evaluation.protocol import Evaluation, evaluate
from atd.evaluation.settings import Settings

__all__ = ["claim_report", "compare", "judge", "limited", "load_detectors", "require_fit"]


def load_detectors(folders: Sequence[Path]) -> tuple[dict[str, Detector], dict[str, Path]]:
    """Loads detector folders under names that tell them apart.

    Args:
        folders: Detector folders; equal names are replaced by those of the folders above.

    Returns:
        Detectors and their folders, by name.

    Raises:
        UserError: A folder is no detector, or is named twice.
    """
    loaded = [(Detector.from_pretrained(folder), folder) for folder in folders]
    names = [detector.config.name for detector, _ in loaded]
    detectors: dict[str, Detector] = {}
    paths: dict[str, Path] = {}
    for (detector, folder), name in zip(loaded, names, strict=True):
        unique = name if names.count(name) == 1 else folder.resolve().parent.name
        if unique in detectors:
            raise UserError(f"{folder}: another detector is called {unique} too; rename its folder")
        detectors[unique], paths[unique] = detector, folder
    return detectors, paths


def require_fit(detector: Detector, config: Config, folder: Path) -> None:
    """Refuses image options that the detector was not made for.

    Raises:
        UserError: Another image size or number of channels.
    """
    made = detector.config
    for key, wanted, given in (
        ("data.image_size", made.image_size, config.data.image_size),
        ("data.channels", made.channels, config.data.channels),
    ):
        if wanted != given:
            raise UserError(f"{key}={given}: the detector in {folder} takes {wanted}")


def judge(
    detector: Detector,
    backbone: Backbone | None,
    splits: DataSplits,
    settings: Settings,
    config: Config,
    path: Path,
) -> Evaluation:
    """Evaluates a detector and the configured baselines on its backbone.

    Args:
        detector: The detector, on the settings' device.
        backbone: The pre-trained backbone for the baselines; None skips them.
        splits: The image sets.
        settings: Attack and execution.
        config: All options.
        path: Where the detector lies.

    Returns:
        Results and scores.

    Raises:
        UserError: As `atd.evaluation.protocol.evaluate`.
    """
    splits = limited(splits, config.evaluate.limit, config.run.seed)
    baselines: dict[str, nn.Module] = {}
    if backbone is not None:
        backbone.eval().requires_grad_(False)
        some = splits.id_train.take(FIT_IMAGES, config.run.seed)
        for name in config.evaluate.baselines:
            device = next(backbone.parameters()).device
            pairs = (
                (pixels.to(device).float() / 255, labels.to(device))
                for pixels, labels, _ in batches(some, torch.arange(len(some)).split(256))
            )
            baselines[name] = build_baseline(name, backbone, pairs)
    return evaluate(
        detector,
        splits,
        settings,
        name=config.run.name,
        path=str(path),
        baselines=baselines,
        config=config,
    )


def compare(
    detectors: Mapping[str, Detector],
    paths: Mapping[str, Path],
    splits: DataSplits,
    settings: Settings,
    config: Config,
) -> list[Evaluation]:
    """Evaluates several detectors on the same sets with the same attack.

    Each is attacked end to end; each is also a source of transferred images for the others.

    Args:
        detectors: Detectors by name, on the settings' device.
        paths: Where they lie.
        splits: The image sets.
        settings: Attack and execution.
        config: All options.

    Returns:
        The evaluations, in the order of the detectors.

    Raises:
        UserError: As `atd.evaluation.protocol.evaluate`.
    """
    splits = limited(splits, config.evaluate.limit, config.run.seed)
    return [
        evaluate(
            detector,
            splits,
            settings,
            name=name,
            path=str(paths[name]),
            sources={other: module for other, module in detectors.items() if other != name},
            config=config,
        )
        for name, detector in detectors.items()
    ]


def limited(splits: DataSplits, limit: int, seed: int) -> DataSplits:
    """The splits with at most `limit` images per evaluated set (0 = all), a seeded subset."""
    return dataclasses.replace(
        splits,
        id_test=splits.id_test.take(limit, seed),
        ood_test={name: images.take(limit, seed) for name, images in splits.ood_test.items()},
    )


def claim_report(folder: Path, detector: nn.Module, name: str, path: Path) -> None:
    """Refuses a report folder that tells of another detector, before hours of work.

    A detector that was trained again under the same name at the same place replaces its report.

    Args:
        folder: The report folder, which may not exist.
        detector: The detector to be reported.
        name: Its name.
        path: Where it lies.

    Raises:
        UserError: The folder holds another detector's report.
    """
    try:
        known = json.loads((folder / "results.json").read_text(encoding="utf-8"))["detector"]
        same_place = known["name"] == name and Path(known["path"]).resolve() == path.resolve()
        same = same_place or known.get("sha256") == fingerprint(detector)
    except (OSError, ValueError, KeyError, TypeError):
        return
    if not same:
        raise UserError(
            f"{folder}: holds the report of another detector ({known['name']} in {known['path']}); "
            "choose another --output"
        )
