"""Detectors of other kinds on the same backbone, to compare with; fitted where they need it."""

from __future__ import annotations

from collections.abc import Sequence

from atd.backbones.base import Backbone
from atd.data.evaluation_sets import EvaluationSets
from atd.data.images import FIT_IMAGES
from atd.detectors.base import Detector
from atd.detectors.fitting import fit_to_sets
from atd.detectors.kinds import kind_class
from atd.errors import UserError

__all__ = ["build_baselines"]


def build_baselines(
    kinds: Sequence[str],
    detector: Detector,
    backbone: Backbone | None,
    sets: EvaluationSets,
    seed: int,
) -> tuple[dict[str, Detector], list[str]]:
    """Builds and fits detectors of other kinds on a backbone.

    Args:
        kinds: Which kinds, with their default options.
        detector: The judged detector, for image size, channels and classes.
        backbone: The backbone with its classifier; None where there is none.
        sets: The images at hand.
        seed: Seed of the images that detectors are fitted on.

    Returns:
        The detectors by kind, and what was left out with the reasons.

    Raises:
        UserError: A kind is unknown.
    """
    built: dict[str, Detector] = {}
    left_out = []
    for kind in kinds:
        reason = _lacks(kind, backbone, sets)
        if not reason and backbone is not None:
            try:
                built[kind] = _build(kind, detector, backbone, sets, seed)
            except UserError as error:
                reason = str(error)
        if reason:
            left_out.append(f"baseline {kind}: {reason}")
    return built, left_out


def _lacks(kind: str, backbone: Backbone | None, sets: EvaluationSets) -> str:
    needs = kind_class(kind, "evaluate.baselines").info.needs
    if "training" in needs:
        return "it is trained, not fitted: train it and name both detectors"
    if backbone is None:
        return "there is no backbone with its classifier"
    if "logits" in needs and backbone.lacks_head:
        return "the class logits of this backbone are all zero"
    if "fitting" in needs and sets.id_train is None:
        return "it is fitted on ID training images, which are not at hand"
    if "outliers" in needs and sets.outliers is None:
        return "it is fitted on outliers, which are not at hand"
    return ""


def _build(
    kind: str, detector: Detector, backbone: Backbone, sets: EvaluationSets, seed: int
) -> Detector:
    made, device = detector.config, next(backbone.parameters()).device
    found = kind_class(kind)(
        backbone,
        image_size=made.image_size,
        channels=made.channels,
        classes=made.classes,
        name=kind,
    )
    inside, outliers = (
        None if images is None else images.take(FIT_IMAGES, seed)
        for images in (sets.id_train, sets.outliers)
    )
    return fit_to_sets(found.to(device), inside, outliers, seed=seed)
