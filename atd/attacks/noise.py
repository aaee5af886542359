"""Random points of the ball: what an attack without any search achieves."""

from __future__ import annotations

from torch import Tensor

from atd.attacks.ball import Ball, Norm
from atd.attacks.objective import Attacked, Objective

__all__ = ["random_noise"]


def random_noise(
    objective: Objective,
    images: Tensor,
    *,
    epsilon: float,
    noise: Tensor,
    norm: Norm = "linf",
) -> Attacked:
    """Evaluates an objective at one random point per image.

    Args:
        objective: Maps images (N, C, H, W) to values (N,).
        images: Images (N, C, H, W) in [0, 1].
        epsilon: Radius of the ball on the [0, 1] scale.
        noise: Numbers (N, C, H, W) in [-1, 1] that stand for a point (see `Ball.start`).
        norm: Norm of the ball.

    Returns:
        The random points, or the clean image where that has the larger value.
    """
    ball = Ball(images.detach().float(), epsilon, norm)
    clean = Attacked.of(objective, ball.images)
    return clean.better(Attacked.of(objective, ball.start(noise)))
