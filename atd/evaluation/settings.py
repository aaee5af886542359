"""How hard a detector is attacked, and how the work is run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from atd.attacks.pgd import default_step_size
from atd.config import Config, EvaluateConfig
from atd.evaluation.scoring import Images, Method, ScoredSet, attack_scores

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Settings", "Tier", "resolve_tier", "settings_from"]


@dataclass(frozen=True)
class Tier:
    """How hard the attack tries."""

    name: str
    steps: int
    restarts: int


_TIERS = {
    "smoke": Tier("smoke", 10, 1),
    "paper": Tier("paper", 100, 1),
    "standard": Tier("standard", 100, 5),
}


def resolve_tier(config: EvaluateConfig) -> Tier:
    """The tier of a config; one whose numbers were overridden is called `custom`."""
    tier = _TIERS[config.tier]
    chosen = replace(
        tier, steps=config.steps or tier.steps, restarts=config.restarts or tier.restarts
    )
    return chosen if chosen == tier else replace(chosen, name="custom")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The attack of an evaluation and how it is run.

    Attributes:
        tier: Steps and restarts.
        epsilon: Attack radius on the [0, 1] scale.
        seed: Seed of random starts and of the bootstrap.
        batch_size: Images per forward pass.
        device: Where the detector is; ignored when an accelerator is given.
        accelerator: Splits the work over its processes.
        cache: Folder of finished scores; None keeps nothing.
        progress: Shows progress bars on the main process.
    """

    tier: Tier
    epsilon: float
    seed: int = 0
    batch_size: int = 256
    device: torch.device | str = "cpu"
    accelerator: Accelerator | None = None
    cache: Path | None = None
    progress: bool = True

    @property
    def step_size(self) -> float:
        """Length of a PGD step, 2.5 epsilon / steps as in the ATD paper."""
        return default_step_size(self.epsilon, self.tier.steps)

    def score(
        self, detector: nn.Module, images: Images, direction: Literal[1, -1], method: Method = "pgd"
    ) -> ScoredSet:
        """`attack_scores` with these settings."""
        return attack_scores(
            detector,
            images,
            direction=direction,
            epsilon=self.epsilon,
            steps=self.tier.steps,
            restarts=self.tier.restarts,
            seed=self.seed,
            method=method,
            batch_size=self.batch_size,
            device=self.device,
            accelerator=self.accelerator,
            cache=self.cache,
            progress=self.progress,
        )


def settings_from(
    config: Config,
    *,
    device: torch.device | str = "cpu",
    accelerator: Accelerator | None = None,
    cache: Path | None = None,
    progress: bool = True,
) -> Settings:
    """The settings that a config asks for."""
    return Settings(
        tier=resolve_tier(config.evaluate),
        epsilon=config.evaluation_epsilon,
        seed=config.run.seed,
        batch_size=config.evaluate.batch_size,
        device=device,
        accelerator=accelerator,
        cache=cache,
        progress=progress,
    )
