"""How well a network in pre-training classifies held-out images, clean and attacked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atd.attacks import Attacked
from atd.data.fetching import batches
from atd.data.images import ImageSet
from atd.inference import filled, frozen
from atd.training.processes import Processes

__all__ = ["accuracy", "rotated"]


def rotated(images: Tensor, multiples: Tensor) -> Tensor:
    """Rotates each image (N, C, S, S) by its own multiple (N,) of 90 degrees."""
    turned = torch.stack([images.rot90(k, (2, 3)) for k in range(4)], dim=1)
    return turned[torch.arange(len(images), device=images.device), multiples]


def accuracy(
    model: nn.Module,
    images: ImageSet,
    processes: Processes,
    attack: Callable[..., Attacked] | None = None,
    *,
    rotate: bool = False,
) -> float:
    """The share of images that a network classifies rightly.

    Args:
        model: Maps images to class logits; it is evaluated, and left as it was.
        images: The images.
        processes: The processes that share the work.
        attack: Attacks images by an objective; None leaves them clean.
        rotate: The class of an image is the multiple of 90 degrees by which it is rotated here.
    """
    correct: list[bool] = []
    classify = filled(model)
    with frozen(model):
        for pixels, labels, indices in batches(images, processes.turns(len(images))):
            x = pixels.to(processes.device).float() / 255
            y = labels.to(processes.device)
            if rotate:
                y = indices.to(processes.device) % 4
                x = rotated(x, y)
            if attack is not None:
                x = attack(partial(_loss_of, classify, y), x).images
            with torch.no_grad():
                correct += (classify(x).argmax(1) == y).tolist()
    everyone = processes.gather(correct)
    return sum(everyone) / len(everyone)


def _loss_of(classify: Callable[[Tensor], Tensor], labels: Tensor, images: Tensor) -> Tensor:
    return F.cross_entropy(classify(images), labels, reduction="none")
