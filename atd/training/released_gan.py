"""ATD's training as its authors' released code does it: only to compare with (`recipe=published`).

Differences from the paper's text, found in github.com/rohban-lab/ATD at a5a5ac1:

* The generator is never trained: the discriminator sees its features cut off from their graph. It
  makes them in evaluation mode, and only its running statistics drift.
* The attack follows the binary cross-entropy of a sigmoid, whose gradient is exactly zero where
  the sigmoid is rounded to 0 or 1.
* Batch normalisation is in evaluation mode for the attack and in training mode for the update, so
  that images are attacked on another function than the one that learns from them. The statistics
  are those of ID images, outliers and generated features together, which no test batch looks like.
* The best epoch is chosen on images that nobody attacked.

What its code does to images (blue and red swapped in some sets, ID images alone not augmented) and
its learning rates are not repeated: they would hide what these differences are worth.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from atd.inference import frozen
from atd.training.adversarial_gan import AdversarialGan
from atd.training.global_norm import global_batch_statistics, normalises_over_batch
from atd.training.logbook import Logbook

__all__ = ["LINEAR", "ReleasedGan", "sigmoid_loss"]

LINEAR = -100.0
"""A floor (`FeatureGenerator`) so low that a generator's output is linear, as released."""


def sigmoid_loss(logits: Tensor, is_ood: bool) -> Tensor:
    """The loss (N,) that the released attack raises: cross-entropy of D(x) = sigmoid(-logit).

    Args:
        logits: Raw OOD logits (N,), in any precision.
        is_ood: Whether the images are outliers (label 0) or ID images (label 1).
    """
    inside = torch.sigmoid(-logits)
    label = torch.zeros_like(inside) if is_ood else torch.ones_like(inside)
    return F.binary_cross_entropy(inside, label, reduction="none")


def _whole(micro_batches: list[Tensor]) -> Tensor:
    """Micro-batches as one batch, whose first half is ID again."""
    sides = zip(*(part.chunk(2) for part in micro_batches), strict=True)
    return torch.cat([half for side in sides for half in side])


class ReleasedGan(AdversarialGan):
    """Trains a discriminator as the released code does; see above."""

    def _attacked(self, step: int, inliers: Tensor, outliers: Tensor) -> list[Tensor]:
        if not self.config.adversarial:
            return super()._attacked(step, inliers, outliers)
        with frozen(self.trained):
            return self.attack(step, (inliers, outliers), self._saturating)

    def _saturating(self, images: Tensor) -> Tensor:
        """What is raised for the ID images, the first half, and lowered for the outliers."""
        inside, outside = self._logits(images).chunk(2)
        return torch.cat([sigmoid_loss(inside, False), -sigmoid_loss(outside, True)])

    def _update_discriminator(
        self, real: list[Tensor], generated: list[Tensor] | None
    ) -> dict[str, Tensor]:
        if normalises_over_batch(self.detector.discriminator):
            real, generated = [_whole(real)], generated and [torch.cat(generated)]
        self.detector.discriminator.train()
        with global_batch_statistics(self.processes.count):
            scalars = super()._update_discriminator(real, generated)
        self.detector.discriminator.eval()
        return scalars

    def _follow_statistics(self, features: Tensor) -> None:
        """The update has moved them."""

    def step(self, step: int, batch: Any) -> dict[str, Tensor]:
        """One update of the discriminator; of the generator only the statistics move."""
        if self.generated is not None:
            self.generated.network.eval()
        scalars = super().step(step, batch)
        if self.generated is not None:
            self.generated.network.train()
            self.detector.discriminator.train()
            with torch.no_grad(), global_batch_statistics(self.processes.count):
                self.detector.discriminator(self.generated.made("latent-g", step))
            self.detector.discriminator.eval()
        return scalars

    def validate(self, step: int, logbook: Logbook) -> dict[str, float]:
        """Chooses by the AUROC of unattacked images (see `Task`)."""
        found = super().validate(step, logbook)
        return {**found, "selection": found.get("val_auroc", found["selection"])}
