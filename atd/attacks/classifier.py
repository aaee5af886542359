"""Adversarial images of a classifier, and negatives: what detectors of attacks are tried on.

They are made against the classifier and know nothing of a detector: a detector that tells them from
clean images is not robust for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from atd.attacks.objective import PerSample
from atd.attacks.pgd import pgd
from atd.attacks.starts import start_noise

__all__ = ["CLASSIFIER_ATTACKS", "ClassifierAttack", "adversarial_images"]

ClassifierAttack = Literal["fgsm", "bim", "pgd", "margin", "least_likely", "negative"]
CLASSIFIER_ATTACKS: tuple[ClassifierAttack, ...] = get_args(ClassifierAttack)


def adversarial_images(
    classifier: Callable[[Tensor], Tensor],
    images: Tensor,
    attack: ClassifierAttack,
    *,
    labels: Tensor | None = None,
    epsilon: float = 8 / 255,
    steps: int = 10,
    seed: int = 0,
) -> Tensor:
    """Images changed so that a classifier errs, in an L-infinity ball (`negative`: all of it).

    Args:
        classifier: Maps images to class logits (N, K); in evaluation mode.
        images: Images (N, C, H, W) in [0, 1].
        attack: `fgsm` (Goodfellow et al., 2015) and `bim` (Kurakin et al., 2017) raise the
            cross-entropy, in one step and in several; so does `pgd` (Madry et al., 2018), from a
            random start. `margin` follows the objective of Carlini and Wagner (2017), largest
            other logit less that of the class, and stops at the first success, for a small change;
            their own search is in L2. `least_likely` (Kurakin et al., 2017) aims at the class
            that is least likely for the clean image. `negative` (Hosseini et al., 2017) is 1 - x.
        labels: True classes (N,); None takes those predicted, whose error is then a change.
        epsilon: Radius on the [0, 1] scale.
        steps: Gradient steps; `fgsm` takes one, whether it helps or not.
        seed: Of random starts.

    Returns:
        Images (N, C, H, W) in [0, 1]; all are returned, whether the classifier errs or not.
    """
    if attack == "negative":
        return 1 - images
    with torch.no_grad():
        logits = classifier(images)
    truth = logits.argmax(1) if labels is None else labels
    aims = logits.argmin(1)

    def entropy(x: Tensor, classes: Tensor) -> Tensor:
        return functional.cross_entropy(classifier(x), classes, reduction="none")

    def margin(x: Tensor, classes: Tensor) -> Tensor:
        found = classifier(x)
        right = functional.one_hot(classes, found.shape[1]).bool()
        return found.masked_fill(right, -torch.inf).amax(1) - found[right]

    wrong = PerSample(entropy, (truth,))
    match attack:
        case "fgsm":
            return pgd(
                wrong, images, epsilon=epsilon, steps=1, step_size=epsilon, keep="last"
            ).images
        case "bim":
            return pgd(wrong, images, epsilon=epsilon, steps=steps).images
        case "pgd":
            noise = start_noise(images.shape[1:], torch.arange(len(images)), seed, 0)
            noise = noise.to(images.device)
            return pgd(wrong, images, epsilon=epsilon, steps=steps, noise=noise).images
        case "margin":
            least = PerSample(margin, (truth,))
            return pgd(least, images, epsilon=epsilon, steps=steps, enough=0.0).images
        case "least_likely":
            towards = PerSample(entropy, (aims,)).then(torch.neg)
            return pgd(towards, images, epsilon=epsilon, steps=steps).images
