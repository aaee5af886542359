"""Whether a score is one: twice, in any batch, after any history, in float64, along its gradient.

These checks attack nothing. They catch detectors whose gradient, on which every white-box
attack rests, is not that of the score they report.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from atd.detectors.base import Detector
from atd.evaluation.checks import Check, agrees, gradients_true, gradients_useful, scores_distinct
from atd.evaluation.subject import Subject
from atd.inference import frozen
from atd.metrics import Array

__all__ = ["consistency_checks", "is_randomised"]

_DIRECTIONS = 3
_STEP = 1e-5
"""Length of a finite difference: in float64 small enough to stay between a ReLU's kinks."""


def is_randomised(detector: Detector, images: Tensor) -> bool:
    """Says whether the scores of float images (N, C, H, W) differ between any of five calls."""
    subject = Subject(detector)
    with frozen(detector), torch.no_grad():
        first, *others = (subject.score(images) for _ in range(5))
    return any(not torch.equal(first, other) for other in others)


def consistency_checks(
    detector: Detector, inside: Tensor, outside: Tensor, *, epsilon: float, seed: int
) -> dict[str, Check]:
    """Runs the checks that need no attack.

    Args:
        detector: The judged detector.
        inside: ID images (N, C, H, W), float in [0, 1], on the detector's device.
        outside: OOD images (M, C, H, W) likewise.
        epsilon: Attack radius as a change of every pixel, on the [0, 1] scale.
        seed: Seed of directions and orders.

    Returns:
        The checks by name.
    """
    images = torch.cat([inside, outside])
    directions = torch.cat([torch.ones(len(inside)), -torch.ones(len(outside))]).to(images.device)
    generator = torch.Generator().manual_seed(seed)
    with frozen(detector):
        subject = Subject(detector)
        with torch.no_grad():
            scores = _numpy(subject.score(images))
            spread = max(float(scores.std()), float(np.finfo(np.float32).tiny))
            twice = _largest(_numpy(subject.score(images)) - scores, spread)
            company = _largest(_in_company(subject, images, generator) - scores, spread)
            history = _largest(_by_history(detector, images, 0.5 * epsilon, generator), spread)
        wrong = _wrong_gradients(detector, images, generator)
        useless = _useless_gradients(subject, images, directions, 0.1 * epsilon, generator)
        sides = directions > 0, directions < 0
        double = _largest(_in_float64(detector, images) - scores, spread)
    return {
        "same_score_twice": agrees(
            "between two calls with the same images",
            twice,
            "More would mean a randomised detector: a single PGD chases noise, and the worst "
            "case must be taken over the randomness too.",
        ),
        "same_score_in_any_batch": agrees(
            "between an image alone and in batches of other images",
            company,
            "More would mean that the score depends on what else is in the batch, e.g. through "
            "batch statistics: an attacked batch then defends itself, which no user's image can.",
        ),
        "same_score_after_anything": agrees(
            "of perturbed images between a fresh detector and one that has seen the originals",
            history,
            "More would mean a detector with a memory: it recognises the neighbours of what it "
            "was shown, which an attacker need not show it.",
        ),
        "same_score_in_float64": agrees(
            "between float32 and float64",
            double,
            "More would mean arithmetic so coarse that gradients are noise.",
        ),
        "scores_distinct": scores_distinct(scores, len(images.flatten(1).unique(dim=0))),
        "gradients_true": gradients_true(max(_share(wrong[side]) for side in sides)),
        "gradients_useful": gradients_useful(max(_share(useless[side]) for side in sides)),
    }


def _share(found: Tensor) -> float:
    return float(found.double().mean())


def _numpy(scores: Tensor) -> Array:
    return scores.detach().cpu().double().numpy()


def _largest(differences: Array, spread: float) -> float:
    """The largest difference in standard deviations; a huge number where one is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        largest = np.abs(differences).max() / spread
    return float(largest) if np.isfinite(largest) else float(np.finfo(np.float32).max)


def _in_company(subject: Subject, images: Tensor, generator: torch.Generator) -> Array:
    """Each image's score alone or in another batch, whichever is farther from the whole batch's."""
    whole = _numpy(subject.score(images))
    alone = np.concatenate([_numpy(subject.score(image)) for image in images.split(1)])
    order = torch.randperm(len(images), generator=generator)
    mixed = np.empty_like(whole)
    for rows in order.split(max(2, len(images) // 5)):
        mixed[rows.numpy()] = _numpy(subject.score(images[rows.to(images.device)]))
    return np.where(np.abs(alone - whole) > np.abs(mixed - whole), alone, mixed)


def _by_history(
    detector: Detector, images: Tensor, step: float, generator: torch.Generator
) -> Array:
    """Differences of the scores of images never scored before, with and without a history."""
    originals = images.flip(-1)
    signs = torch.rand(images.shape, generator=generator).sub_(0.5).sign_().to(images.device)
    neighbours = (originals + step * signs).clamp(0.0, 1.0)
    fresh, experienced = Subject(copy.deepcopy(detector)), Subject(copy.deepcopy(detector))
    experienced.score(originals)
    return _numpy(experienced.score(neighbours)) - _numpy(fresh.score(neighbours))


def _in_float64(detector: Detector, images: Tensor) -> Array:
    with torch.no_grad():
        return _numpy(Subject(copy.deepcopy(detector).double()).score(images.double()))


def _wrong_gradients(detector: Detector, images: Tensor, generator: torch.Generator) -> Tensor:
    """For images and directions (N, D), whether the derivative is not the difference's."""
    objective = Subject(copy.deepcopy(detector).double()).objective(1)
    # Inside the range of images: a detector within a detector may refuse what lies outside.
    points = images.double().clamp(_STEP, 1.0 - _STEP).requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(objective(points).sum(), points)
    # Signs that cancel leave a difference of rounding alone, of which nothing is said.
    rounding = 1e-6 * gradient.abs().flatten(1).sum(1)
    wrong = []
    with torch.no_grad():
        for _ in range(_DIRECTIONS):
            signs = torch.rand(images.shape, generator=generator).sub_(0.5).sign_()
            direction = signs.to(images.device).double()
            said = (gradient * direction).flatten(1).sum(1)
            ahead = objective(points + _STEP * direction)
            behind = objective(points - _STEP * direction)
            found = (ahead - behind) / (2 * _STEP)
            allowed = 0.1 * torch.maximum(found.abs(), said.abs()) + rounding
            wrong.append((found - said).abs() > allowed)
    return torch.stack(wrong, dim=1)


def _useless_gradients(
    subject: Subject, images: Tensor, directions: Tensor, step: float, generator: torch.Generator
) -> Tensor:
    """For images (N,), whether a step along the gradient gains no more than a random step."""

    def harm(at: Tensor) -> Tensor:
        return directions * subject.objective(1)(at.clamp(0.0, 1.0))

    points = images.clone().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad((directions * subject.objective(1)(points)).sum(), points)
    signs = torch.rand(images.shape, generator=generator).sub_(0.5).sign_().to(images.device)
    with torch.no_grad():
        along, across = harm(images + step * gradient.sign()), harm(images + step * signs)
    return along <= across
