"""The one way from loaded detectors to evaluations: one with its baselines, or several alike."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from atd.backbones.base import Backbone
from atd.config import Config
from atd.data.evaluation_sets import EvaluationSets
from atd.detectors.base import Detector
from atd.evaluation.baselines import build_baselines
from atd.evaluation.protocol import Evaluation, evaluate
from atd.evaluation.settings import Settings
from atd.launcher import ignored_options

__all__ = ["evaluate_detectors"]


def evaluate_detectors(
    detectors: Mapping[str, Detector],
    sets: EvaluationSets,
    settings: Settings,
    config: Config,
    *,
    paths: Mapping[str, Path | str] | None = None,
    backbone: Backbone | None = None,
    command: str = "",
) -> list[Evaluation]:
    """Evaluates detectors on the same sets with the same attack.

    A single detector is compared with `evaluate.baselines`; several are compared with one
    another, and each is a source of transferred images for the others.

    Args:
        detectors: Detectors by name, on the settings' device.
        sets: The image sets.
        settings: Attack and execution.
        config: All options.
        paths: Where the detectors lie, for the record.
        backbone: The backbone of a single detector with its classifier, for the baselines.
        command: What a person types to repeat this, for the record.

    Returns:
        The evaluations, in the order of the detectors.

    Raises:
        UserError: As `atd.evaluation.protocol.evaluate`, or a baseline is unknown.
    """
    sets = sets.limited(config.evaluate.limit, config.run.seed)
    baselines: dict[str, Detector] = {}
    left_out = [*sets.left_out, *sets.unused_files(), *ignored_options(os.environ)]
    names = config.evaluate.baselines
    if len(detectors) == 1:
        (detector,) = detectors.values()
        built, lacking = build_baselines(names, detector, backbone, sets, config.run.seed)
        baselines, left_out = built, left_out + lacking
    elif names:
        listed = ", ".join(names)
        left_out.append(f"baselines {listed}: several detectors are compared with one another")
    return [
        evaluate(
            detector,
            sets,
            settings,
            name=name,
            path=str((paths or {}).get(name, "")),
            baselines=baselines,
            sources={other: found for other, found in detectors.items() if other != name},
            config=config,
            left_out=left_out,
            command=command,
        )
        for name, detector in detectors.items()
    ]
