"""Makes the detectors of the paper's tables, on the networks that all tables share."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from atd.config import Config
from atd.data.splits import DataSplits
from atd.detectors.base import Detector
from atd.experiments.bench import Bench
from atd.experiments.methods import Method
from atd.experiments.setting import Setting
from atd.experiments.variants import TRAININGS
from atd.pipeline import Run
from atd.reporting.wording import plural
from atd.training.fits import fitted_detector
from atd.training.processes import Processes

__all__ = ["Workshop", "network_words"]


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
        self.setting, self.bench = setting, Bench(setting, work)

    @property
    def processes(self) -> Processes:
        """The process that does the work."""
        return self.bench.processes

    def config(self, method: Method, seed: int) -> Config:
        """All options of a method with a seed.

        Raises:
            UserError: An option is unknown or impossible.
        """
        ground = self.bench.folder(method.training, seed)
        words = [*TRAININGS.get(method.training, ()), *method.options]
        if method.kind != "atd":
            return self.setting.resolved(method.kind, seed, ground, *words)
        if method.training:
            words.append(f"backbone.weights={ground / 'detector'}")
        part = re.sub(r"[^\w.]+", "-", "-".join(["", "atd", *method.options]))
        folder = self.bench.folder(method.training, seed, part)
        return self.setting.resolved("atd", seed, folder, *words)

    def prepare(self, method: Method, seed: int) -> None:
        """Reads the images and trains the network of a method, unless it has none.

        Raises:
            UserError: There are no images, or they cannot be trained on.
        """
        if method.training:
            self.bench.ground(method.training, seed)

    def detector(self, method: Method, seed: int) -> tuple[Detector, DataSplits]:
        """A trained or fitted detector, in evaluation mode, and the images of its run.

        Raises:
            UserError: It cannot be made.
        """
        config = self.config(method, seed)
        if not method.training:
            detector, _, splits = Run(config, self.processes).train()
            return detector, splits
        ground = self.bench.ground(method.training, seed)
        assert ground.splits is not None
        assert ground.backbone is not None
        if method.kind == "atd":
            return Run(config, self.processes, ground.splits).train()[0], ground.splits
        given = dataclasses.replace(ground.ingredients, config=config)
        return fitted_detector(given, ground.backbone), ground.splits
