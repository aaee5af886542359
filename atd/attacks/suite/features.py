"""Attack on features with APGD, for scores that give no useful gradient."""

from __future__ import annotations

import torch

from atd.attacks.apgd import apgd
from atd.attacks.features import feature_distance, nearest_targets
from atd.attacks.objective import Attacked
from atd.attacks.suite.base import Means, Member, Situation

__all__ = ["ATTACK", "Features"]


class Features(Member):
    """Moves each image's features towards those of the nearest image of the other side.

    Every restart has targets of its own.
    """

    kind, title = "features", "feature-space APGD"

    @property
    def passes(self) -> tuple[int, int]:
        """Forward and backward passes per image."""
        return (self.steps + 3) * self.restarts, (self.steps + 1) * self.restarts

    def lacks(self, means: Means) -> str:
        """Why the attack cannot be made with these means; empty where it can."""
        return "" if means.features else "the detector has no features that it could aim at"

    def run(self, given: Situation) -> Attacked:
        """Makes one restart of the attack."""
        features, images = given.features, given.images
        assert features is not None  # noqa: S101  `lacks` says so otherwise
        aims = []
        with torch.no_grad():
            here = features(images)
            for number, candidates in enumerate(given.targets):
                chosen = candidates[given.restart :: self.restarts].to(images.device)
                aims.append(nearest_targets(here[given.group == number], features(chosen)))
        distance = feature_distance(features, torch.cat(aims))
        found = apgd(distance, images, steps=self.steps, **given.ball)
        return Attacked.of(given.objective, found.images)


ATTACK = Features
