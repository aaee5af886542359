"""The loss functions of robust pre-training and of ATD."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from atd.inference import at_least_float32

__all__ = [
    "discriminator_loss",
    "generator_loss",
    "crowding",
    "hat_loss",
    "kl_per_sample",
    "moment_distance",
    "trades_loss",
    "uniform_cross_entropy",
]


def kl_per_sample(logits: Tensor, adversarial_logits: Tensor) -> Tensor:
    """KL(softmax(logits) || softmax(adversarial_logits)) of each sample.

    Args:
        logits: Class logits (N, K) of the clean images.
        adversarial_logits: Class logits (N, K) of the perturbed images.

    Returns:
        (N,), non-negative, in nats.
    """
    log_p = F.log_softmax(at_least_float32(logits), 1)
    log_q = F.log_softmax(at_least_float32(adversarial_logits), 1)
    return (log_p.exp() * (log_p - log_q)).sum(1)


def uniform_cross_entropy(logits: Tensor) -> Tensor:
    """Cross-entropy of each sample to the uniform distribution over the classes.

    Args:
        logits: Class logits (N, K).

    Returns:
        (N,), at least log K, in nats.
    """
    exact = at_least_float32(logits)
    return torch.logsumexp(exact, 1) - exact.mean(1)


def trades_loss(
    logits: Tensor, adversarial_logits: Tensor, labels: Tensor, beta: float, smoothing: float = 0.0
) -> Tensor:
    """CE(clean) + beta * KL(clean || adversarial) (TRADES, Zhang et al. 2019, eq. 5).

    Args:
        logits: Class logits (N, K) of the clean images.
        adversarial_logits: Class logits (N, K) of the attacked images.
        labels: Classes (N,).
        beta: Weight of the robustness term.
        smoothing: Label smoothing of the clean term.

    Returns:
        The mean loss.
    """
    clean = F.cross_entropy(at_least_float32(logits), labels, label_smoothing=smoothing)
    return clean + beta * kl_per_sample(logits, adversarial_logits).mean()


def hat_loss(
    logits: Tensor,
    adversarial_logits: Tensor,
    helper_logits: Tensor,
    labels: Tensor,
    helper_labels: Tensor,
    beta: float,
    gamma: float,
    smoothing: float = 0.0,
) -> Tensor:
    """CE(clean) + beta * KL + gamma * CE(f(x + h delta), helper label) (HAT, eq. 6).

    The helper term keeps the margin along the adversarial direction from growing further than
    the helper, a network trained on clean images, finds justified.

    Args:
        logits: Class logits (N, K) at x.
        adversarial_logits: Class logits (N, K) at x + delta.
        helper_logits: Class logits (N, K) of the trained network at x + h * delta.
        labels: Classes (N,).
        helper_labels: Classes (N,) that the helper gives to x + delta.
        beta: Weight of the robustness term.
        gamma: Weight of the helper term.
        smoothing: Label smoothing of the clean term.

    Returns:
        The mean loss.
    """
    trades = trades_loss(logits, adversarial_logits, labels, beta, smoothing)
    return trades + gamma * F.cross_entropy(at_least_float32(helper_logits), helper_labels)


def discriminator_loss(
    id_logits: Tensor, outlier_logits: Tensor, generated_logits: Tensor | None, alpha: float
) -> Tensor:
    """The discriminator's side of ATD (eq. 9), to be minimised.

    With D = sigmoid(-logit) the paper's three terms -log D(in), -alpha * log(1 - D(out)) and
    -(1 - alpha) * log(1 - D(G(z))) are soft-plus functions of the raw OOD logits.

    Args:
        id_logits: Raw OOD logits (N,) of attacked ID images.
        outlier_logits: (M,) of attacked outliers.
        generated_logits: (L,) of generated features; None trains without a generator, and the
            outliers then carry the full weight.
        alpha: Weight of the outliers against the generated features.

    Returns:
        The loss; 2 ln 2 for a discriminator that gives every sample logit 0.
    """
    loss = F.softplus(id_logits).mean()
    if generated_logits is None:
        return loss + F.softplus(-outlier_logits).mean()
    real = F.softplus(-outlier_logits).mean()
    return loss + alpha * real + (1 - alpha) * F.softplus(-generated_logits).mean()


def generator_loss(generated_logits: Tensor) -> Tensor:
    """The generator's side of ATD, to be minimised: eq. 9, non-saturating, -log D(G(z)).

    A generator that deceives ends on the ID features themselves, and the discriminator that has
    to reject it there unlearns them: see `moment_distance`.

    Args:
        generated_logits: Raw OOD logits (N,) of generated features.

    Returns:
        The mean loss.
    """
    return F.softplus(generated_logits).mean()


def moment_distance(generated: Tensor, real: Tensor) -> Tensor:
    """How far two sets of samples differ in each feature's mean and standard deviation.

    A generator that minimises it to the outliers makes more outliers: softened, mixed, and
    never on the ID features, where rejecting them would cost the discriminator real ID images.

    Args:
        generated: (N, ...), N >= 2.
        real: (M, ...), M >= 2.

    Returns:
        Mean squared difference of the means plus that of the deviations.
    """
    fake, true = generated.flatten(1), real.flatten(1)
    means = (fake.mean(0) - true.mean(0)).square().mean()
    return means + (fake.std(0) - true.std(0)).square().mean()


def crowding(samples: Tensor) -> Tensor:
    """How close samples lie to their nearest neighbours: minus the mean log distance.

    Minimised, it spreads samples evenly (the Kozachenko-Leonenko entropy estimate, as in
    Sablayrolles et al. 2019). Without it a generator may put all samples in one place.

    Args:
        samples: (N, ...), N >= 2.

    Returns:
        The mean over samples; distances are per root of the dimension.
    """
    flat = samples.flatten(1)
    with torch.no_grad():
        nearest = torch.cdist(flat, flat).fill_diagonal_(float("inf")).argmin(1)
    distances = (flat - flat[nearest]).square().mean(1)
    return -0.5 * torch.log(distances + 1e-8).mean()
