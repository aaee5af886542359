"""Plain words about a game between generator and discriminator that has gone wrong."""

from __future__ import annotations

import math

__all__ = ["generator_warnings"]

_COLLAPSED_SPREAD = 0.05
_LOSS_OF_A_CONSTANT = 2 * math.log(2)


def generator_warnings(means: dict[str, float]) -> list[str]:
    """Reads an epoch's mean scalars of ATD.

    Args:
        means: `loss`, `logit_spread` and, with a generator, `generated_taken_for_id` (share in
            [0, 1]), `logit_generated` and, if it is trained, `generator_gradient` (norm).

    Returns:
        One sentence per problem; empty when the game goes well.
    """
    problems = []
    constant = abs(means["loss"] - _LOSS_OF_A_CONSTANT) < 0.02 * _LOSS_OF_A_CONSTANT
    if means["logit_spread"] < _COLLAPSED_SPREAD and constant:
        problems.append(
            "the discriminator has collapsed: it gives every image the same score (loss 2 ln 2); "
            "lower atd.epsilon, or use atd.generator=frozen"
        )
    taken = means.get("generated_taken_for_id")
    if taken is None or "generator_gradient" not in means:
        return problems
    if taken > 0.9:
        problems.append(
            f"the generator is winning: {taken:.0%} of its features pass for in-distribution, so "
            "rejecting them costs real ID images; use "
            "atd.generator_objective=imitate or atd.generator=frozen"
        )
    if means["generator_gradient"] < 1e-6 or means["logit_generated"] > 15:
        problems.append(
            "the generator has vanished: the discriminator rejects all it makes with certainty, "
            "so it teaches nothing any more; lower atd.lr_discriminator or raise atd.lr_generator"
        )
    return problems
