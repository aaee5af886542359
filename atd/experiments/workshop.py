"""Makes the detectors of a table: a network is trained once for each objective and seed."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path

from atd.config import Config
from atd.data.splits import DataSplits
from atd.detectors.base import Detector
from atd.experiments.methods import Method
from atd.experiments.setting import Setting
from atd.pipeline import Run
from atd.reporting.wording import plural
from atd.training.processes import Processes
from atd.training.tasks import fitted_detector

__all__ = ["Workshop", "network_words"]

_FITTED_FIRST = "msp"
"""The kind that comes with a network; it needs no fitting of its own."""


def network_words(config: Config) -> str:
    """The networks of a table, in one phrase."""
    network, training = config.backbone, config.pretrain
    return (
        f"{network.architecture}, width {network.width}, {network.activation}, "
        f"{plural(training.epochs, 'epoch')} at epsilon {training.epsilon:.4f}"
    )


class Workshop:
    """Detectors by the methods of a table, all on the images of one setting.

    Args:
        setting: The config and its scale.
        work: Where run folders go; what is finished there is not made again.
    """

    def __init__(self, setting: Setting, work: Path) -> None:
        self.setting, self.work = setting, work
        self.ground = functools.lru_cache(maxsize=2)(self._ground)

    @functools.cached_property
    def processes(self) -> Processes:
        """The process that does the work."""
        run = self.setting.resolved(_FITTED_FIRST, 0, self.work).run
        return Processes(run.device, run.timeout_minutes)

    def config(self, method: Method, seed: int) -> Config:
        """All options of a method with a seed.

        Raises:
            UserError: An option is unknown or impossible.
        """
        words = [*method.options]
        ground = self._folder(seed, method.objective)
        if method.objective:
            words.append(f"pretrain.objective={method.objective}")
        if method.kind != "atd":
            return self.setting.resolved(method.kind, seed, ground, *words)
        if method.objective:
            words.append(f"backbone.weights={ground / 'detector'}")
        folder = self._folder(seed, method.objective, *method.options, "atd")
        return self.setting.resolved("atd", seed, folder, *words)

    def _folder(self, seed: int, *parts: str) -> Path:
        name = re.sub(r"[^\w.]+", "-", "-".join([self.setting.name, *filter(None, parts)]))
        return self.work / f"{name}-{seed}"

    def _ground(self, objective: str, seed: int) -> Run:
        """A run up to the detector that comes with its network."""
        config = self.config(Method(objective=objective, kind=_FITTED_FIRST), seed)
        run = Run(config, self.processes).until("fit")
        run.save_detector()
        return run

    def detector(self, method: Method, seed: int) -> tuple[Detector, DataSplits]:
        """A trained or fitted detector, in evaluation mode, and the images of its run.

        Raises:
            UserError: It cannot be made.
        """
        config = self.config(method, seed)
        if not method.objective:
            detector, _, splits = Run(config, self.processes).train()
            return detector, splits
        ground = self.ground(method.objective, seed)
        assert ground.splits is not None
        assert ground.backbone is not None
        if method.kind == "atd":
            return Run(config, self.processes, ground.splits).train()[0], ground.splits
        given = dataclasses.replace(ground.ingredients, config=config)
        return fitted_detector(given, ground.backbone), ground.splits
