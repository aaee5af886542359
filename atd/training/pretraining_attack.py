"""The attack of robust pre-training: PGD, or a single step from a random start."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from atd.attacks import default_step_size, pgd
from atd.config import PretrainConfig
from atd.training.losses import kl_per_sample

__all__ = ["perturbed"]

# Length of a single step from a random start, in epsilon (Wong et al. 2020, arXiv:2001.03994).
_SINGLE_STEP = 1.25


def perturbed(
    classify: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    draws: Tensor,
    config: PretrainConfig,
    *,
    raises: str,
    steps: int,
) -> Tensor:
    """Images attacked as `pretrain.attack` says.

    PGD raises the KL divergence from the clean output, or the classification loss. A single step
    always follows the classification loss: it needs no clean output, and its gradient does not
    vanish near the image as that of KL does.

    Args:
        classify: Maps images to class logits, in the state in which it is attacked.
        images: Clean images (N, C, H, W) in [0, 1].
        labels: Their classes (N,).
        draws: Randomness shaped like the images: standard normal for `pgd`, else uniform in
            [-1, 1).
        config: Options.
        raises: `divergence` or `classification loss`.
        steps: Steps of PGD.

    Returns:
        Images (N, C, H, W) in [0, 1], at most epsilon away.
    """

    def loss(x: Tensor) -> Tensor:
        return F.cross_entropy(classify(x), labels, reduction="none")

    epsilon = config.epsilon
    if config.attack == "fgsm-rs":
        return pgd(
            loss,
            images,
            epsilon=epsilon,
            steps=1,
            step_size=_SINGLE_STEP * epsilon,
            noise=draws,
            keep="last",
        ).images
    diverges = raises == "divergence"
    # KL has no gradient at the image itself; the published start is 1e-3 N(0, 1).
    noise = 1e-3 * draws / max(epsilon, 1e-12) if diverges else draws.clamp(-1, 1)
    return pgd(
        _divergence_from(classify, images) if diverges else loss,
        images,
        epsilon=epsilon,
        steps=steps,
        step_size=config.step_size or default_step_size(epsilon, steps),
        noise=noise,
        keep="last",
    ).images


def _divergence_from(
    classify: Callable[[Tensor], Tensor], images: Tensor
) -> Callable[[Tensor], Tensor]:
    """KL of the output at other images (N, C, H, W) from that at the clean ones."""
    with torch.no_grad():
        clean = classify(images)
    return lambda x: kl_per_sample(clean, classify(x))
