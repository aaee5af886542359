"""The published repository's own attack, imported from a local checkout."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from atd.errors import UserError
from atd.training.adversarial_gan import AdversarialGan
from benchmarks.published import contiguous
from benchmarks.timing import Step

__all__ = ["load_reference", "reference_attack"]

_FILE, _NAME = "pgd_attack.py", "attack_pgd"


def load_reference(checkout: Path) -> ModuleType:
    """Imports `pgd_attack.py` of a checkout by its path.

    Only this file can be imported: the others of the repository train or test when imported.

    Raises:
        UserError: The file is missing, cannot be imported, or lacks the attack.
    """
    file = checkout / _FILE
    if not file.is_file():
        raise UserError(f"--reference {checkout}: no {_FILE} there; give a checkout's root folder")
    spec = importlib.util.spec_from_file_location("published_pgd_attack", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # noqa: BLE001  foreign code may fail in any way
        raise UserError(f"--reference {file}: cannot be imported: {error}") from None
    if not callable(getattr(module, _NAME, None)):
        raise UserError(f"--reference {file}: has no function {_NAME}")
    return module


def reference_attack(
    checkout: Path, task: AdversarialGan, inliers: Tensor, outliers: Tensor
) -> Step:
    """The published attack on ID images, then on outliers, as its training script calls it.

    It maximises the binary cross-entropy of D(x), 1 for ID images and 0 for outliers.
    """
    module, config = load_reference(checkout), task.config
    module.device = str(inliers.device)  # type: ignore[attr-defined]
    detector = task.detector.to(memory_format=torch.contiguous_format).requires_grad_(True)

    def step() -> None:
        for images, label in ((contiguous(inliers), 1.0), (contiguous(outliers), 0.0)):
            getattr(module, _NAME)(
                lambda x: torch.sigmoid(-detector(x)),
                images,
                images.new_full((len(images),), label),
                epsilon=config.epsilon,
                alpha=2.5 * config.epsilon / config.steps,
                attack_iters=config.steps,
            )

    return step
