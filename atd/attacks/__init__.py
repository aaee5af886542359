"""Perturbations of inputs against any differentiable value; nothing here knows of detectors."""

from atd.attacks.apgd import apgd
from atd.attacks.ball import Ball, Norm
from atd.attacks.bpda import straight_through
from atd.attacks.eot import expectation
from atd.attacks.features import feature_distance, nearest_targets
from atd.attacks.guard import finite_gradient
from atd.attacks.noise import random_noise
from atd.attacks.objective import Attacked, Objective, PerSample
from atd.attacks.pgd import default_step_size, fgsm, pgd
from atd.attacks.square import square
from atd.attacks.transfer import transfer

__all__ = [
    "Attacked",
    "Ball",
    "Norm",
    "Objective",
    "PerSample",
    "apgd",
    "default_step_size",
    "expectation",
    "feature_distance",
    "fgsm",
    "finite_gradient",
    "nearest_targets",
    "pgd",
    "random_noise",
    "square",
    "straight_through",
    "transfer",
]
