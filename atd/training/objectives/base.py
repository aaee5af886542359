"""What every objective of pre-training says of itself, and what it is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from atd.config import PretrainConfig

__all__ = ["Network", "Objective"]


@dataclass(frozen=True)
class Network:
    """The network in training, as an objective sees it.

    Attributes:
        passes: Class logits (N, K) of each group of images (N, C, H, W) that it is given, in
            order; batch normalisation takes the statistics of every group by itself.
        helper: Class logits of the standard-trained helper, without a gradient.
        config: Options.
    """

    passes: Callable[..., Sequence[Tensor]]
    helper: Callable[[Tensor], Tensor]
    config: PretrainConfig


class Objective(ABC):
    """What a network is trained for. It holds nothing: all that it uses is given."""

    raises: ClassVar[Literal["nothing", "classification loss", "divergence"]] = "divergence"
    """What the attack on the training images raises: their classification loss, or the KL
    divergence from the output at the clean images; `nothing` trains on clean images."""
    helped: ClassVar[bool] = False
    """Whether a standard-trained helper comes first."""

    @abstractmethod
    def loss(
        self, network: Network, images: Tensor, attacked: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The mean loss of a batch.

        Args:
            network: The network, in training mode.
            images: Clean images (N, C, H, W) in [0, 1].
            attacked: The same images attacked; `images` where nothing is raised.
            labels: Their classes (N,).

        Returns:
            The loss, and the class logits (N, K) by which accuracy is told.
        """
