"""A detector as the attacks see it: something to be raised or lowered, whatever it returns."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from atd.attacks import PerSample, expectation, finite_gradient, straight_through
from atd.detectors.base import Detector
from atd.errors import UserError
from atd.inference import filled

__all__ = ["Subject"]

Function = Callable[[Tensor], Tensor]


class Subject:
    """The differentiable functions of a detector that attacks need.

    Where the kind says that its gradient is a surrogate's, that of `Detector.surrogate` is followed
    while the true score counts (BPDA).

    Args:
        detector: The detector; float images (N, C, H, W) in [0, 1], larger = more OOD.
        draws: Evaluations that are averaged for a randomised detector (EOT).
        where: Name of the image set, for messages.
        passed: Called after each evaluation of the score with the passes that it took, forward
            and, where a gradient is asked for, backward.
        whole_blocks: Call the detector through `atd.inference`, so that on a CPU no rounding
            depends on the size of a batch.
    """

    def __init__(
        self,
        detector: Detector,
        draws: int = 1,
        where: str = "the images",
        *,
        passed: Callable[[int], None] | None = None,
        whole_blocks: bool = False,
    ) -> None:
        self.detector, self.draws, self.where = detector, draws, where
        self.passed = passed or (lambda count: None)
        self._called: Callable[[Function], Function] = filled if whole_blocks else _as_it_is

    def score(self, images: Tensor) -> Tensor:
        """Scores (N,) as the detector gives them, averaged over the draws, in float32 or above.

        Raises:
            UserError: The scores have another shape than (N,).
        """
        scores = expectation(self._called(self._checked_score), self.draws)(images)
        followed = torch.is_grad_enabled() and images.requires_grad
        self.passed((2 if followed else 1) * self.draws * len(images))
        return scores

    def _checked_score(self, images: Tensor) -> Tensor:
        scores = self.detector.logits(images)
        if not isinstance(scores, Tensor) or scores.shape != (len(images),):
            shape = tuple(getattr(scores, "shape", ())) or type(scores).__name__
            raise UserError(
                f"{self.where}: the detector's scores have shape {shape}, they must be "
                f"({len(images)},): one number per image"
            )
        return scores if scores.dtype == torch.float64 else scores.float()

    def objective(self, direction: int | Tensor, broken: Tensor | None = None) -> PerSample:
        """What an attack maximises: the score times `direction`.

        Scores that are not finite never win, and gradients that are not finite are taken as
        zero, so that a detector cannot stop an attack by breaking down. A score without any
        gradient has gradient zero; `gradients_present` tells the reader.

        Args:
            direction: +1 to raise scores, -1 to lower them; one for each sample (N,), or one
                for all.
            broken: Bool (N,), set where a score is not finite.

        Returns:
            A function of images (N, C, H, W).
        """
        function: Function = self.score
        if self.detector.info.gradient == "surrogate":
            function = straight_through(self.score, self._called(self.detector.surrogate))

        def value(images: Tensor, signs: int | Tensor, rows: slice | Tensor) -> Tensor:
            guarded = finite_gradient(images) if images.requires_grad else images
            scores = function(guarded)
            if images.requires_grad:  # also where its graph does not reach the images
                scores = scores + 0.0 * guarded.flatten(1).sum(1)
            finite = scores.isfinite()
            if broken is not None:
                broken[rows] |= ~finite.detach()
            return torch.where(finite, signs * scores, -torch.inf)

        if isinstance(direction, int):
            return PerSample(lambda images: value(images, direction, slice(None)), ())
        return PerSample(value, (direction, torch.arange(len(direction), device=direction.device)))

    def features(self, images: Tensor) -> Tensor:
        """What the score is read from (N, F), for the feature-space attack."""
        return self._called(self.detector.features)(images).flatten(1)


def _as_it_is(function: Function) -> Function:
    return function
