"""Detectors of other kinds on the same backbone, to compare with; fitted where they need it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import Tensor, nn

from atd.backbones.base import Backbone
from atd.data.evaluation_sets import EvaluationSets
from atd.data.images import FIT_IMAGES
from atd.detectors.base import Detector, DetectorInfo, Need
from atd.detectors.baselines import BASELINES as UNMOVED
from atd.detectors.baselines import build_baseline
from atd.detectors.fitting import FitData, SetBatches
from atd.detectors.kinds import KINDS, kind_class
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


class _Unmoved(Detector):
    """A score that is not a kind of its own yet."""

    kind = "unmoved"
    info = DetectorInfo(title="unmoved", paper="see the module")
    Options = type("Options", (), {})

    def __init__(self, module: nn.Module, detector: Detector, name: str) -> None:
        nn.Module.__init__(self)
        self.options, self.backbone, self.module = None, None, module
        self.config = dataclasses.replace(detector.config, kind=name, options={}, name=name)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W)."""
        scores: Tensor = self.module.logits(images)  # type: ignore[operator]
        return scores

    def features(self, images: Tensor) -> Tensor:
        """The backbone's embedding (N, F)."""
        found: Tensor = self.module.backbone.embed(images)  # type: ignore[operator, union-attr]
        return found


def _needs(kind: str) -> frozenset[Need]:
    if kind in UNMOVED and kind not in KINDS:
        return frozenset() if kind == "msp" else frozenset({"fitting"})
    return kind_class(kind).info.needs


def _lacks(kind: str, backbone: Backbone | None, sets: EvaluationSets) -> str:
    needs = _needs(kind)
    if "training" in needs:
        return "it is trained, not fitted: train it and name both detectors"
    if backbone is None:
        return "there is no backbone with its classifier"
    if "fitting" in needs and sets.id_train is None:
        return "it is fitted on ID training images, which are not at hand"
    if "outliers" in needs and sets.outliers is None:
        return "it is fitted on outliers, which are not at hand"
    return ""


def _build(
    kind: str, detector: Detector, backbone: Backbone, sets: EvaluationSets, seed: int
) -> Detector:
    made, device = detector.config, next(backbone.parameters()).device
    if kind not in KINDS:
        given = (
            ()
            if sets.id_train is None
            else SetBatches(sets.id_train.take(FIT_IMAGES, seed), device)
        )
        return _Unmoved(build_baseline(kind, backbone, given), detector, kind).eval()
    found = kind_class(kind)(
        backbone,
        image_size=made.image_size,
        channels=made.channels,
        classes=made.classes,
        name=kind,
    ).to(device)
    if "fitting" in found.info.needs and sets.id_train is not None:
        inside = SetBatches(sets.id_train.take(FIT_IMAGES, seed), device)
        outside = None
        if "outliers" in found.info.needs and sets.outliers is not None:
            outside = SetBatches(sets.outliers.take(FIT_IMAGES, seed), device)
        found = found.fit(FitData(id=inside, outliers=outside), seed=seed)
    return found.eval().requires_grad_(False)
