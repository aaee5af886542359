"""The generator's side of ATD's training: samples for the discriminator, and its own updates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from atd.attacks import pgd
from atd.config import AtdConfig
from atd.data.sampler import generator_for
from atd.inference import frozen
from atd.training.global_norm import global_batch_statistics
from atd.training.losses import crowding, generator_loss, moment_distance
from atd.training.processes import Processes
from atd.training.stream import Stream

__all__ = ["GeneratorSide"]


class GeneratorSide:
    """A generator in training, or one that stays as it was drawn.

    What it makes for a batch is the same however many processes there are.

    Args:
        network: Makes features (or images) of noise.
        discriminator: Gives features a raw OOD logit.
        stream: The images whose batches and shares it follows.
        config: Options.
        processes: The processes that share the work.
        seed: The run's seed.
    """

    def __init__(
        self,
        network: nn.Module,
        discriminator: nn.Module,
        stream: Stream,
        config: AtdConfig,
        *,
        processes: Processes,
        seed: int,
    ) -> None:
        self.network, self.discriminator, self.stream = network, discriminator, stream
        self.config, self.processes, self.seed = config, processes, seed
        self.optimizer: torch.optim.Adam | None = None
        network.requires_grad_(config.generator == "trained")
        if config.generator == "trained":
            self.optimizer = torch.optim.Adam(
                network.parameters(), lr=config.lr_generator, betas=(0.5, 0.999)
            )

    def parts(self) -> dict[str, Any]:
        """What of it belongs to the training's state."""
        parts: dict[str, Any] = {"generator": self.network}
        return parts if self.optimizer is None else parts | {"generator_optimizer": self.optimizer}

    def samples(self, step: int, features: list[Tensor]) -> list[Tensor]:
        """Samples for the discriminator's update; no gradient reaches the generator.

        Args:
            step: The step.
            features: Real features of each micro-batch.

        Returns:
            The samples of each micro-batch.
        """
        with torch.no_grad():
            generated = self.made("latent-d", step).chunk(len(features))
        if not self.config.attack_generated:
            return list(generated)
        spread = float(self.processes.whole_batch(torch.cat(features)).std())
        return [self._attacked(part, spread) for part in generated]

    def made(self, purpose: str, step: int) -> Tensor:
        """What the generator makes of this process's share of the noise of the whole batch.

        Args:
            purpose: What it is for; noise for another purpose is other noise.
            step: The step.
        """
        device = self.processes.device
        generator = generator_for("atd", purpose, self.seed, step, device=device)
        shape = (self.stream.batch_size, self.config.latent_dim)
        noise = torch.randn(shape, generator=generator, device=device)[self.stream.share]
        with global_batch_statistics(self.processes.count):
            made: Tensor = self.network(noise)
        return made

    def _attacked(self, generated: Tensor, spread: float) -> Tensor:
        """Samples with a lower OOD logit.

        Pixels use the radius of the images. For features, which have no such radius, it is a
        tenth of their own spread: the size to which attacks on images move pooled features.
        """
        pixels = self.config.features == "pixels"
        with frozen(self.discriminator):
            return pgd(
                lambda x: -self.discriminator(x),
                generated,
                epsilon=self.config.epsilon if pixels else 0.1 * spread,
                steps=self.config.steps,
                keep="last",
                bounds=(0.0, 1.0) if pixels else None,
            ).images

    def update(self, step: int, outliers: Tensor) -> dict[str, Tensor]:
        """One update of a generator that is trained; none of another.

        Args:
            step: The step.
            outliers: Features of this process's outliers.

        Returns:
            Loss and norm of the gradient.
        """
        if self.optimizer is None:
            return {}
        config, count = self.config, self.processes.count
        with frozen(self.discriminator):
            generated = self.made("latent-g", step)
            whole = self.processes.whole_batch(generated)
            if config.generator_objective == "imitate":
                of_batch = moment_distance(whole, self.processes.whole_batch(outliers))
                of_part = torch.zeros_like(of_batch)
            else:
                of_part = generator_loss(self.discriminator(generated))
                of_batch = torch.zeros_like(of_part)
            if config.generator_diversity:
                of_batch = of_batch + config.generator_diversity * crowding(whole)
            self.optimizer.zero_grad(set_to_none=True)
            (of_part + count * of_batch).backward()
        parameters = list(self.network.parameters())
        self.processes.average_gradients(parameters)
        norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
        self.optimizer.step()
        return {"loss_generator": (of_part + of_batch).detach(), "generator_gradient": norm}
