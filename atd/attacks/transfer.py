"""Transfer attack: images found on one model, tried on another."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from atd.attacks.objective import Attacked, Objective

__all__ = ["transfer"]


def transfer(
    source_objective: Objective,
    objective: Objective,
    images: Tensor,
    *,
    attack: Callable[[Objective, Tensor], Attacked],
) -> Attacked:
    """Attacks one objective and evaluates another (Papernot et al., 2016, arXiv:1605.07277).

    A transferred attack that beats a direct one shows that the direct one's gradients mislead.

    Args:
        source_objective: The objective that is attacked.
        objective: The objective whose values count; needs no gradient.
        images: Images (N, C, H, W) in [0, 1].
        attack: Maximises an objective from given images, such as
            `functools.partial(pgd, epsilon=8 / 255, steps=100)`.

    Returns:
        The images found, or the clean one where that has the larger value.
    """
    clean = Attacked.of(objective, images.detach().float())
    found = attack(source_objective, clean.images)
    return clean.better(Attacked.of(objective, found.images))
