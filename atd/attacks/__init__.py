"""Perturbations of inputs against any differentiable value; nothing here knows of detectors."""

from atd.attacks.frozen import frozen
from atd.attacks.pgd import Attacked, default_step_size, fgsm, pgd

__all__ = ["Attacked", "default_step_size", "fgsm", "frozen", "pgd"]
