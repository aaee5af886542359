"""OSAD, open-set adversarial defence (Shao et al., ECCV 2020, arXiv:2009.00814)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from atd.backbones.denoising import TURNS
from atd.training.objectives.base import Network, Objective, Side

__all__ = ["OBJECTIVE", "Osad"]


class Osad(Objective):
    """Adversarial training, reconstruction and rotation prediction, each of weight 1.

    CE(f(x + d), y) + MSE(decoder(x + d), x) + CE(rotation(r + d), turn), where r is an image
    rotated at random and attacked to raise its own term. The layers are those of
    `atd.backbones.denoising`, which says what differs from the published network.
    """

    raises = "classification loss"
    beside = "rotations"
    raises_beside = "classification loss"
    backbone = {"denoising": True}
    attacked_output = "heads"
    trained_output = "heads_and_image"

    def sample_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy (N,) of the class logits."""
        return F.cross_entropy(outputs[:, :-TURNS], labels, reduction="none")

    def beside_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy (N,) of the rotation logits."""
        return F.cross_entropy(outputs[:, -TURNS:], labels, reduction="none")

    def loss(self, network: Network, inside: Side, beside: Side) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        pixels = inside.images[0].numel()
        whole, turned = network.passes(inside.attacked, beside.attacked)
        logits, image = whole[:, : -pixels - TURNS], whole[:, -pixels:]
        smoothing = network.config.label_smoothing
        loss = F.cross_entropy(logits, inside.labels, label_smoothing=smoothing)
        loss = loss + (image - inside.images.flatten(1)).square().mean()
        rotations = self.beside_loss(turned[:, :-pixels], beside.labels)
        return loss + rotations.mean(), logits


OBJECTIVE = Osad()
