"""How an evaluation is run: its attack, its device and where it keeps what it found."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from atd.attacks import Norm, default_step_size
from atd.attacks.suite import Member
from atd.config import Config, EvaluateConfig
from atd.detectors.base import Detector
from atd.evaluation.jobs import Images, Job, ScoredSet
from atd.evaluation.scoring import attack_sets
from atd.evaluation.smoothing import Smoothing
from atd.evaluation.tiers import Tier, resolve_tier
from atd.evaluation.worst import Attack

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Settings", "settings_from", "smoothing_of"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The attack of an evaluation and how it is run.

    Attributes:
        tier: The attack's members.
        epsilon: Attack radius on the [0, 1] scale.
        norm: Norm of the attack's ball.
        seed: Seed of random starts and of the bootstrap.
        draws: Evaluations that are averaged for a detector found to be randomised.
        batch_size: Images per forward pass.
        device: Where the detector is; ignored when an accelerator is given.
        accelerator: Splits the work over its processes.
        cache: Folder of scores found so far; None keeps nothing.
        compiled: Compiles the detector (not the baselines) for its attack.
        progress: Shows a progress bar on the main process.
        protocol: Name of the list of OOD sets, for the record.
        smoothing: What is certified; None certifies nothing.
    """

    tier: Tier
    epsilon: float
    norm: Norm = "linf"
    seed: int = 0
    draws: int = 1
    batch_size: int = 256
    device: torch.device | str = "cpu"
    accelerator: Accelerator | None = None
    cache: Path | None = None
    compiled: bool = False
    progress: bool = True
    protocol: str = "custom"
    smoothing: Smoothing | None = None

    @property
    def step_size(self) -> float:
        """Length of a PGD step, 2.5 epsilon / steps as in the ATD paper."""
        return default_step_size(self.epsilon, self.tier.steps)

    @property
    def place(self) -> torch.device:
        """Where the detector is."""
        return torch.device(self.device) if self.accelerator is None else self.accelerator.device

    def whole_box(self, shape: Sequence[int]) -> float:
        """The radius that reaches every image of a shape from every other one."""
        return 1.0 if self.norm == "linf" else math.prod(shape) ** 0.5

    def attack(self, members: tuple[Member, ...] | None = None, **options: Any) -> Attack:
        """The attack of these settings.

        Args:
            members: Instead of the tier's.
            **options: Further fields of `Attack`, or other values for those set here.

        Returns:
            The attack.
        """
        chosen = self.tier.members if members is None else members
        same = {
            "epsilon": self.epsilon,
            "norm": self.norm,
            "seed": self.seed,
            "draws": self.draws,
        }
        return Attack(members=chosen, **{**same, **options})

    def score(
        self,
        detector: Detector,
        images: Images,
        direction: Literal[1, -1],
        attack: Attack,
        tick: Callable[[int], None] | None = None,
    ) -> ScoredSet:
        """`attack_scores` with these settings."""
        return self.score_sets(detector, [Job(images, direction, attack)], tick)[0]

    def score_sets(
        self,
        detector: Detector,
        jobs: Sequence[Job],
        tick: Callable[[int], None] | None = None,
    ) -> list[ScoredSet]:
        """`attack_sets` with these settings."""
        return attack_sets(
            detector,
            jobs,
            batch_size=self.batch_size,
            device=self.device,
            accelerator=self.accelerator,
            cache=self.cache,
            tick=tick,
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
        norm=config.evaluate.norm,
        seed=config.run.seed,
        batch_size=config.evaluate.batch_size,
        device=device,
        accelerator=accelerator,
        cache=cache,
        compiled=config.run.compile,
        progress=progress,
        protocol=config.data.protocol or "custom",
        smoothing=smoothing_of(config.evaluate),
    )


def smoothing_of(options: EvaluateConfig) -> Smoothing | None:
    """What is certified, if anything."""
    if not options.certify:
        return None
    return Smoothing(
        sigma=options.certify_sigma,
        draws=options.certify_draws,
        radii=tuple(sorted(set(options.certify_radii))),
        confidence=options.certify_confidence,
    )
