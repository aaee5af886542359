"""The attack on a training step's ID images and outliers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from atd.attacks import default_step_size, pgd
from atd.config import AtdConfig
from atd.data.sampler import generator_for
from atd.training.carried import CarriedPerturbations
from atd.training.processes import Processes
from atd.training.schedule import attack_steps
from atd.training.stream import Stream

__all__ = ["ImageAttack"]

_LEAST_STEPS = 4


class ImageAttack:
    """PGD that raises the OOD logit of ID images and lowers that of outliers, in one batch.

    Args:
        streams: ID images and outliers.
        shape: Shape of an image, (C, H, W).
        config: Options.
        steps: Steps of the whole training.
        processes: The processes that share the work.
        seed: The run's seed.
    """

    def __init__(
        self,
        streams: tuple[Stream, Stream],
        shape: tuple[int, ...],
        config: AtdConfig,
        *,
        steps: int,
        processes: Processes,
        seed: int,
    ) -> None:
        self.streams, self.config, self.steps = streams, config, steps
        self.processes, self.seed = processes, seed
        self.carried: list[CarriedPerturbations] = []
        if config.attack_start == "carried":
            self.carried = [
                CarriedPerturbations(stream, config.epsilon, shape, processes) for stream in streams
            ]

    def __call__(
        self, step: int, pair: tuple[Tensor, Tensor], logits: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """Attacks this process's share of a step, one micro-batch after the other.

        Args:
            step: The step.
            pair: ID images and outliers, each (n, C, H, W) in [0, 1].
            logits: Raw OOD logits (N,) of images, differentiable in them.

        Returns:
            The attacked micro-batches of the share: ID images, and as many outliers after them.
        """
        starts = [self._start(step, side, images) for side, images in enumerate(pair)]
        count = self.streams[0].micro_batches
        chunks = zip(*(group.chunk(count) for group in (*pair, *starts)), strict=True)
        attacked = [
            self._attack(step, torch.cat([inside, outside]), torch.cat(noise), logits)
            for inside, outside, *noise in chunks
        ]
        for side, carried in enumerate(self.carried):
            found = torch.cat([part.chunk(2)[side] for part in attacked])
            carried.keep(step, pair[side], found)
        return attacked

    def _start(self, step: int, side: int, images: Tensor) -> Tensor:
        """Starts in [-1, 1], for each image the same however many processes there are."""
        if self.carried:
            return self.carried[side].start(step)
        stream = self.streams[side]
        name = ("attack-id", "attack-outlier")[side]
        generator = generator_for("atd", name, self.seed, step, device=images.device)
        shape = (stream.batch_size, *images.shape[1:])
        draws = torch.rand(shape, generator=generator, device=images.device)
        return (2 * draws - 1)[stream.share]

    def _attack(
        self, step: int, images: Tensor, noise: Tensor, logits: Callable[[Tensor], Tensor]
    ) -> Tensor:
        direction = images.new_ones(len(images))
        direction[len(images) // 2 :] = -1
        config = self.config
        steps = attack_steps(step, self.steps, config.steps, config.step_schedule)
        # A carried attack has taken many steps before, so it need not cross the ball in these.
        usual = default_step_size(
            config.epsilon, max(steps, _LEAST_STEPS) if self.carried else steps
        )
        return pgd(
            lambda x: direction * logits(x),
            images,
            epsilon=config.epsilon,
            steps=steps,
            step_size=config.step_size or usual,
            noise=noise,
            keep="last",
        ).images

    def state(self) -> dict[str, Any]:
        """What an exact resume needs."""
        names = ("id", "outlier")
        return {name: kept.levels for name, kept in zip(names, self.carried, strict=False)}

    def load(self, state: dict[str, Any]) -> None:
        """Takes back what `state` returned."""
        for kept, levels in zip(self.carried, state.values(), strict=True):
            kept.levels = levels.to(kept.levels.device)
