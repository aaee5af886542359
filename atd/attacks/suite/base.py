"""What every attack of a suite says of itself, and what it is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from atd.attacks.ball import Norm
from atd.attacks.objective import Attacked, Objective, PerSample
from atd.attacks.starts import start_noise

__all__ = ["Means", "Member", "Situation"]


@dataclass(frozen=True)
class Means:
    """What an attacker has at hand.

    Attributes:
        norm: Norm of the ball.
        features: Whether features of the model can be read and images to aim at are known.
        sources: Number of other models that images can be transferred from.
    """

    norm: Norm
    features: bool = False
    sources: int = 0


@dataclass(frozen=True, eq=False)
class Situation:
    """A batch of images, and all that one restart of an attack on them may use.

    Attributes:
        images: Unchanged images (B, C, H, W), float in [0, 1].
        objective: What is to grow; for float images (B, C, H, W) values (B,).
        epsilon: Radius of the ball.
        norm: Its norm.
        indices: Positions (B,) of the images in their set, which fix their random starts.
        seed: Seed of the evaluation.
        restart: Number of the restart.
        enough: Values (B,) past which an image is finished; None never finishes.
        features: Maps images to features (B, F).
        targets: Sets of images (T, C, H, W) that features may be moved towards.
        group: Which of `targets` (B,) an image is moved towards.
        sources: The same objective on other models.
    """

    images: Tensor
    objective: PerSample
    epsilon: float
    norm: Norm
    indices: Tensor
    seed: int
    restart: int
    group: Tensor
    enough: Tensor | None = None
    features: Callable[[Tensor], Tensor] | None = None
    targets: tuple[Tensor, ...] = ()
    sources: tuple[Objective, ...] = ()

    @property
    def ball(self) -> dict[str, Any]:
        """Radius and norm, as attacks take them."""
        return {"epsilon": self.epsilon, "norm": self.norm}

    @property
    def search(self) -> dict[str, Any]:
        """The ball, and where to stop in it."""
        return {**self.ball, "enough": self.enough}

    @property
    def noise(self) -> Tensor:
        """A random start (B, C, H, W) in [-1, 1], each image's own."""
        shape, device = self.images.shape[1:], self.images.device
        return start_noise(shape, self.indices, self.seed, self.restart).to(device)


@dataclass(frozen=True)
class Member(ABC):
    """One attack of a suite.

    Attributes:
        steps: Gradient steps, or queries of Square.
        restarts: Independent random starts; sets of targets of `features`.
    """

    kind: ClassVar[str]
    """Its name in results, which is that of its file."""
    title: ClassVar[str]
    """Its name in reports."""
    sentence: ClassVar[str] = ""
    """Its name within a sentence; `title` where that is empty."""
    stepped: ClassVar[bool] = True
    """Whether `evaluate.steps` replaces its steps."""
    restarted: ClassVar[bool] = False
    """Whether `evaluate.restarts` replaces its restarts."""

    steps: int = 1
    restarts: int = 1

    def __str__(self) -> str:
        return f"{self.kind}-{self.steps}x{self.restarts}"

    @classmethod
    def words(cls) -> str:
        """Its name within a sentence."""
        return cls.sentence or cls.title

    @property
    def passes(self) -> tuple[int, int]:
        """Forward and backward passes per image (`transfer`: for one source)."""
        return (self.steps + 1) * self.restarts, self.steps * self.restarts

    def lacks(self, means: Means) -> str:
        """Why the attack cannot be made with these means; empty where it can."""
        return ""

    def runs(self, means: Means) -> int:
        """How often the attack is made where it can be made."""
        return self.restarts

    @abstractmethod
    def run(self, given: Situation) -> Attacked:
        """Makes one restart of the attack.

        Returns:
            The images found (B, C, H, W) and the values (B,) of the objective there.
        """
