"""Training as published code does it, written here from its description.

These are the plain steps that the benchmarks measure against: float32, contiguous images, the
gradient of every parameter on the way computed in every attack step, ID images and outliers
attacked one after the other, features of the attacked images computed anew with a graph that is
then dropped, and a number read back from the device in every step.

Two things differ from the published code on purpose, so that both sides run the same attack: raw
logits are attacked instead of the binary cross-entropy of a sigmoid, and the discriminator is the
one of this package. Neither changes the number or the size of the passes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atd.detectors.atd import ATD
from atd.training.losses import discriminator_loss, hat_loss, kl_per_sample

__all__ = ["PublishedAtd", "PublishedHat", "plain_pgd"]

Function = Callable[[Tensor], Tensor]


def plain_pgd(
    objective: Function, images: Tensor, noise: Tensor, *, epsilon: float, steps: int, size: float
) -> Tensor:
    """PGD by `backward`, the last iterate; the objective is evaluated once more at the end.

    Args:
        objective: Maps images to values (N,), maximised.
        images: (N, C, H, W) in [0, 1].
        noise: Start within the ball, in [-1, 1].
        epsilon: Radius.
        steps: Gradient steps.
        size: Length of a step.

    Returns:
        The attacked images.
    """
    delta = _valid(epsilon * noise, images).requires_grad_(True)
    for _ in range(steps):
        objective(images + delta).mean().backward()
        assert delta.grad is not None
        moved = (delta + size * delta.grad.sign()).clamp(-epsilon, epsilon)
        delta.data = _valid(moved.detach(), images)
        delta.grad.zero_()
    objective(images + delta).mean()
    return (images + delta).detach()


def _valid(delta: Tensor, images: Tensor) -> Tensor:
    return torch.max(torch.min(delta, 1 - images), -images)


def _contiguous(images: Tensor) -> Tensor:
    """Images in the layout that torch makes by default."""
    return images.contiguous(memory_format=torch.contiguous_format)


def _copied(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).to(memory_format=torch.contiguous_format)


class PublishedAtd:
    """The published step of ATD.

    Args:
        detector: Copied; every parameter keeps its gradient, which nothing ever clears in the
            backbone.
        generator: Copied.
        epsilon: Radius of the attack.
        steps: Its steps.
        latent: Width of the generator's noise.
        spare: Attack without the gradients of the parameters, the one gain over the published way.
    """

    def __init__(
        self,
        detector: ATD,
        generator: nn.Module,
        *,
        epsilon: float,
        steps: int,
        latent: int,
        spare: bool,
    ) -> None:
        self.spare, self.latent = spare, latent
        self.epsilon, self.steps, self.size = epsilon, steps, 2.5 * epsilon / steps
        copied = _copied(detector)
        assert isinstance(copied, ATD)
        self.detector, self.generator = copied.eval(), copy.deepcopy(generator)
        self.detector.requires_grad_(True)
        self.generator.requires_grad_(True)
        betas = (0.5, 0.999)
        self.optimizer = torch.optim.Adam(copied.discriminator.parameters(), 1e-4, betas)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), 1e-4, betas)

    def attack(self, inliers: Tensor, outliers: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Raises the logit of ID images, then lowers that of outliers.

        Args:
            inliers: (N, C, H, W).
            outliers: As many.
            noise: (2N, C, H, W) in [-1, 1], the starts of both.
        """
        start, other = noise.split(len(inliers))
        return self._attack(inliers, 1, start), self._attack(outliers, -1, other)

    def _attack(self, images: Tensor, direction: int, noise: Tensor) -> Tensor:
        self.detector.requires_grad_(not self.spare)
        attacked = plain_pgd(
            lambda x: direction * self.detector.logits(x),
            _contiguous(images),
            _contiguous(noise),
            epsilon=self.epsilon,
            steps=self.steps,
            size=self.size,
        )
        self.detector.requires_grad_(True)
        return attacked

    def step(self, inliers: Tensor, outliers: Tensor) -> float:
        """One update of the discriminator and one of the generator; returns the loss."""
        noise = 2 * torch.rand(2 * len(inliers), *inliers.shape[1:], device=inliers.device) - 1
        real = self.attack(inliers, outliers, noise)
        self.optimizer.zero_grad()
        with torch.no_grad():
            made = self._made(len(inliers))
        seen = [self.detector.features(real[0]), made, self.detector.features(real[1])]
        logits = self.detector.discriminator(torch.cat(seen).detach())
        of_id, of_made, of_outliers = logits.chunk(3)
        loss = discriminator_loss(of_id, of_outliers, of_made, alpha=0.5)
        loss.backward()
        self.optimizer.step()
        self.generator_optimizer.zero_grad()
        F.softplus(self.detector.discriminator(self._made(len(inliers)))).mean().backward()
        self.generator_optimizer.step()
        return float(loss.detach())

    def _made(self, count: int) -> Tensor:
        device = self.detector.feature_mean.device
        made: Tensor = self.generator(torch.randn(count, self.latent, device=device))
        return made


class PublishedHat:
    """The published step of HAT: PGD on KL, then three passes of their own, and the helper's.

    Args:
        model: Copied.
        helper: Copied.
        epsilon: Radius of the attack.
        steps: Its steps.
        size: Length of a step.
        spare: Attack without the gradients of the parameters, as HAT's own code does; ATD's, which
            pre-trains by it, computes them.
    """

    def __init__(
        self,
        model: nn.Module,
        helper: nn.Module,
        *,
        epsilon: float,
        steps: int,
        size: float,
        spare: bool,
    ) -> None:
        self.spare, self.epsilon, self.steps, self.size = spare, epsilon, steps, size
        self.model = _copied(model)
        self.helper = _copied(helper).eval().requires_grad_(False)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True
        )

    def step(self, images: Tensor, labels: Tensor) -> float:
        """One update; returns the loss."""
        images = _contiguous(images)
        attacked = self._attack(images)
        self.model.train()
        with torch.no_grad():
            helped = self.helper(attacked).argmax(1)
        self.optimizer.zero_grad()
        clean, moved = self.model(images), self.model(attacked)
        beyond = self.model(images + 2 * (attacked - images))
        loss = hat_loss(clean, moved, beyond, labels, helped, beta=2.5, gamma=0.5)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def _attack(self, images: Tensor) -> Tensor:
        self.model.eval()
        self.model.requires_grad_(not self.spare)
        with torch.no_grad():
            clean = self.model(images)
        attacked = plain_pgd(
            lambda x: kl_per_sample(clean, self.model(x)),
            images,
            1e-3 * torch.randn_like(images) / self.epsilon,
            epsilon=self.epsilon,
            steps=self.steps,
            size=self.size,
        )
        self.model.requires_grad_(True)
        return attacked
