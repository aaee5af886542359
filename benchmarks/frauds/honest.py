"""Honest detectors: nothing in them hinders an attack, so no check may suspect them.

Trained ones differ in seed, architecture, features, normalisation and in whether they were
trained for robustness at all; baselines score the same backbone without any training of ATD.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from atd.backbones.base import Backbone
from atd.config import Config, load
from atd.data.evaluation_sets import EvaluationSets
from atd.data.splits import DataSplits, load_splits
from atd.detectors.base import Detector
from atd.evaluation.baselines import build_baselines
from atd.pipeline import Run
from atd.run_folder import RunFolder
from atd.training.processes import Processes

__all__ = ["BASES", "HONEST", "TRAINED", "Workshop"]

TRAINED: dict[str, list[str]] = {
    "seed 0": [],
    "undefended": ["pretrain.objective=standard", "atd.adversarial=false"],
    "not adversarial": ["atd.adversarial=false"],
    "no generator": ["atd.generator=none"],
    "normalisation: none": ["atd.normalisation=none"],
    "normalisation: batch": ["atd.normalisation=batch"],
    "features: last layer": ["backbone.features=last"],
    "backbone fine-tuned": ["atd.finetune=true"],
    "pixels, no backbone": ["atd.features=pixels"],
    "seed 1": ["run.seed=1"],
    "width 8": ["backbone.width=8"],
    "silu": ["backbone.activation=silu"],
    "seed 2": ["run.seed=2"],
    "wide_resnet28": ["backbone.architecture=wide_resnet28"],
}
BASELINES = ("msp", "energy", "mahalanobis", "relative_mahalanobis")
HONEST: tuple[str, ...] = (*TRAINED, *BASELINES)
BASES: tuple[str, ...] = ("undefended", "seed 0")
"""What frauds are built on: a detector that cannot resist, and one that resists."""


@dataclass(frozen=True)
class Workshop:
    """Trains detectors where they are missing; a finished run is read from its folder.

    Args:
        origin: The config file.
        overrides: `key=value` strings for every detector.
        work: Where run folders lie.
    """

    origin: str
    overrides: Sequence[str]
    work: Path
    _made: dict[str, tuple[Detector, Backbone | None]] = field(default_factory=dict)

    def config(self, name: str) -> Config:
        """The options of a trained detector; a baseline has those of `seed 0`."""
        folder = self.work / "".join(c if c.isalnum() else "_" for c in name)
        changes = TRAINED.get(name)
        if changes is None:
            return self.config("seed 0")
        return load(self.origin, [*self.overrides, *changes, f"run.dir={folder}"])

    @cached_property
    def splits(self) -> DataSplits:
        """The image sets, the same for all."""
        return load_splits(self.config("seed 0"))

    def detector(self, name: str) -> Detector:
        """An honest detector by its name in `HONEST`."""
        detector, backbone = self.trained(name if name in TRAINED else "seed 0")
        if name in TRAINED:
            return detector
        found, left_out = build_baselines(
            [name], detector, backbone, EvaluationSets.of(self.splits), seed=0
        )
        assert not left_out, left_out
        return found[name]

    def trained(self, name: str) -> tuple[Detector, Backbone | None]:
        """A trained detector and its pre-trained backbone, which equal options share."""
        if name not in self._made:
            config = self.config(name)
            folder, shared = config.run.folder, self.work / f"backbone-{_pretraining(config)}"
            RunFolder(folder).claim(config)
            _copy_pretraining(shared, folder)
            detector, backbone, _ = Run(config, Processes("cpu"), self.splits).train()
            _copy_pretraining(folder, shared)
            self._made[name] = detector, backbone
        return self._made[name]


def _pretraining(config: Config) -> str:
    """Names everything that the pre-trained weights depend on."""
    backbone = asdict(config.backbone)
    for later in ("features", "standardise"):
        backbone.pop(later)
    options = [config.run.seed, asdict(config.data), backbone, asdict(config.pretrain)]
    return hashlib.sha256(json.dumps(options).encode()).hexdigest()[:12]


def _copy_pretraining(source: Path, target: Path) -> None:
    """Copies finished pre-training between run folders; a run that has it starts at ATD."""
    for stage in ("helper", "pretrain"):
        file = source / "state" / f"{stage}.safetensors"
        copy = target / "state" / file.name
        if file.exists() and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
