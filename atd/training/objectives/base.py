"""What every objective of pre-training says of itself, and what it is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from atd.config import PretrainConfig
from atd.training.losses import uniform_cross_entropy

__all__ = ["Network", "Objective", "Raises", "Side"]

Raises = Literal["nothing", "classification loss", "divergence"]


@dataclass(frozen=True)
class Network:
    """The network in training, as an objective sees it.

    Attributes:
        passes: Outputs (N, K) of each group of images (N, C, H, W) that it is given, in order;
            batch normalisation takes the statistics of every group by itself.
        helper: Class logits of the standard-trained helper, without a gradient.
        config: Options.
    """

    passes: Callable[..., Sequence[Tensor]]
    helper: Callable[[Tensor], Tensor]
    config: PretrainConfig


@dataclass(frozen=True)
class Side:
    """Images of one kind in a batch.

    Attributes:
        images: Clean images (N, C, H, W) in [0, 1].
        attacked: The same images attacked; `images` where nothing is raised.
        labels: Their classes (N,); outliers have none, and zeros instead.
    """

    images: Tensor
    attacked: Tensor
    labels: Tensor

    def chunks(self, count: int) -> Iterator[Side]:
        """The side in so many parts of equal size."""
        parts = (x.tensor_split(count) for x in (self.images, self.attacked, self.labels))
        return map(Side, *parts)


class Objective(ABC):
    """What a network is trained for. It holds nothing: all that it uses is given."""

    raises: ClassVar[Raises] = "divergence"
    """What the attack on the training images raises: their classification loss (`sample_loss`),
    or the KL divergence from the output at the clean images; `nothing` trains on clean images."""
    helped: ClassVar[bool] = False
    """Whether a standard-trained helper comes first."""
    beside: ClassVar[Literal["nothing", "outliers", "rotations"]] = "nothing"
    """What comes beside the training images, as many: outliers, or the images themselves, rotated
    by multiples of 90 degrees, which are their labels."""
    raises_beside: ClassVar[Raises] = "nothing"
    """What the attack on those raises; their classification loss is `beside_loss`."""
    mines: ClassVar[bool] = False
    """Whether an epoch's outliers are those that the network is least sure of."""
    outlier_weight: ClassVar[float] = 0.5
    """The published weight of the outliers' loss."""
    backbone: ClassVar[Mapping[str, bool]] = {}
    """Options of the backbone that it needs."""
    attacked_output: ClassVar[str] = "forward"
    """The method of the backbone whose outputs the attacks see."""
    trained_output: ClassVar[str] = "forward"
    """The method of the backbone whose outputs `Network.passes` gives."""

    def sample_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The classification loss (N,) of training images with the attacked outputs (N, K)."""
        return F.cross_entropy(outputs, labels, reduction="none")

    def beside_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """That of the images beside; of outliers the cross-entropy to the uniform distribution."""
        return uniform_cross_entropy(outputs)

    def weight(self, config: PretrainConfig) -> float:
        """The weight of the outliers' loss: the published one unless another was chosen."""
        return config.outlier_weight or self.outlier_weight

    @abstractmethod
    def loss(self, network: Network, inside: Side, beside: Side) -> tuple[Tensor, Tensor]:
        """The mean loss of a batch.

        Args:
            network: The network, in training mode.
            inside: Training images.
            beside: What comes beside them; no images where nothing does.

        Returns:
            The loss, and the class logits (N, K) by which accuracy is told.
        """
