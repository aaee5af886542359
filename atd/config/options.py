"""The options of a run: frozen dataclasses whose ranges are checked when they are made.

Each group of the YAML file is one class. `atd.config` fills them from file and command line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from atd.config.ranges import require, require_epsilon
from atd.config.training import AtdConfig, BackboneConfig, PretrainConfig

__all__ = [
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "LoaderConfig",
    "RunConfig",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Where a run lives and on what it runs."""

    name: str = "digits"
    dir: str = ""
    """Run folder; empty means `checkpoints/<run.name>`."""
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    deterministic: bool = True
    """Ask torch for deterministic algorithms (CPU runs are bit-identical with it)."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """Arithmetic of the backbone while *training*; evaluation is always float32. `auto` takes
    bfloat16 where the device multiplies it in hardware."""
    compile: bool = False
    """Compile the passes through the frozen backbone in training (torch.compile; CUDA graphs on a
    GPU) and the detector for its evaluation. It takes minutes before it saves any."""
    device_batch: int = 0
    """Most images of a batch that a process handles at once in training (0 = all of its share).
    It divides the work, not the result: a step's gradient is summed over the parts."""
    keep: int = 2
    """Training states to keep of each stage; a damaged one gives way to the one before it."""
    save_minutes: float = 10.0
    """Save within an epoch whenever this many minutes have passed; 0 saves after every step."""
    timeout_minutes: float = 30.0
    """Processes that wait so long for a silent one end, and name it. It must be longer than one
    works alone: the first one reads all images at the start while the others wait."""
    rank_logs: bool = False
    """Every process writes `logs/rank-N.log` in the run folder."""

    def __post_init__(self) -> None:
        require(bool(re.fullmatch(r"[\w.-]+", self.name)), "run.name", self.name, "a folder name")
        require(self.device_batch >= 0, "run.device_batch", self.device_batch, "0 or more")
        require(0 <= self.seed < 2**31, "run.seed", self.seed, "from 0 to 2147483647")
        require(self.keep >= 1, "run.keep", self.keep, "1 or more")
        require(self.save_minutes >= 0, "run.save_minutes", self.save_minutes, "0 or more")
        minutes, rule = self.timeout_minutes, "above 0 and at most 10080 (a week)"
        require(0 < minutes <= 10080, "run.timeout_minutes", minutes, rule)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.dir) if self.dir else Path("checkpoints") / self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Image sources (see `atd.data.sources`) and how they are read."""

    id: str = "bundled:digits"
    """In-distribution source."""
    id_test: str = ""
    """ID test source; empty means the source's own test split, else images held out from `id`."""
    outliers: str = ""
    """Outlier source for training; empty means the offline fallback `bundled:fallback`."""
    ood_val: str = ""
    """OOD images for selecting the best epoch; empty means images held out from `outliers`."""
    ood_test: list[str] = field(default_factory=list)
    """Far OOD test sources; `name=source` gives a set a name of its own."""
    near_test: list[str] = field(default_factory=list)
    """Near OOD test sources (semantically close to ID); reported apart from the far mean."""
    protocol: Literal["", "paper", "openood"] = ""
    """Published OOD test sets, in place of `ood_test` and `near_test`: `paper` (the ATD paper's
    eight far sets) or `openood` (near and far sets of OpenOOD v1.5; ID is CIFAR-10 or -100)."""
    openood: str = ""
    """Folder of OpenOOD's benchmark_imglist and images_classic; empty means whole sets."""
    image_size: int = 32
    channels: int = 3
    """3 (grey images are repeated) or 1 (colour images become grey)."""
    root: str = "data"
    """Where torchvision data sets lie or are downloaded to."""
    id_limit: int = 0
    """Use at most this many ID images for training (0 = all), a seeded subset."""
    outlier_limit: int = 0
    ood_limit: int = 0
    """At most this many images of every OOD test set (0 = all), a seeded subset."""
    val_fraction: float = 0.1
    """Share of the ID training images, and of the outliers, held out for validation."""
    test_fraction: float = 0.2
    """Share held out as ID test where the ID source has no test split of its own."""
    skip_corrupt: bool = False
    """Leave out unreadable images with a count instead of stopping."""
    augment: Literal["none", "crop", "crop-flip"] = "crop-flip"

    def __post_init__(self) -> None:
        require(bool(self.id), "data.id", self.id, "a source such as cifar10 or folder:PATH")
        require(8 <= self.image_size <= 512, "data.image_size", self.image_size, "from 8 to 512")
        require(self.channels in (1, 3), "data.channels", self.channels, "1 or 3")
        for key in ("id_limit", "outlier_limit", "ood_limit"):
            require(getattr(self, key) >= 0, f"data.{key}", getattr(self, key), "0 or more")
        for key in ("val_fraction", "test_fraction"):
            value = getattr(self, key)
            require(0.0 < value <= 0.5, f"data.{key}", value, "above 0 and at most 0.5")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """How a detector is judged."""

    tier: Literal["smoke", "paper", "standard", "strong"] = "paper"
    """smoke: PGD-10; paper: PGD-100 once; standard: APGD from three starts as well; strong: from
    five, and feature-space, transfer and Square attacks (`atd.evaluation.tiers`)."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the attack's ball; Square is left out for l2."""
    epsilon: float = -1.0
    """Attack radius; -1 means the radius the detector was trained for (atd.epsilon)."""
    steps: int = 0
    """0 means the tier's number."""
    restarts: int = 0
    """0 means the tier's number."""
    limit: int = 0
    """At most this many images per set (0 = all), a seeded subset."""
    batch_size: int = 256
    baselines: list[str] = field(default_factory=lambda: ["msp", "mahalanobis"])
    """Scores of the same backbone to compare with, attacked in the same way."""

    def __post_init__(self) -> None:
        if self.epsilon != -1.0:
            require_epsilon("evaluate.epsilon", self.epsilon)
        require(0 <= self.steps <= 10000, "evaluate.steps", self.steps, "from 0 to 10000")
        require(0 <= self.restarts <= 100, "evaluate.restarts", self.restarts, "from 0 to 100")
        require(self.limit >= 0, "evaluate.limit", self.limit, "0 or more")
        require(self.batch_size >= 1, "evaluate.batch_size", self.batch_size, ">= 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderConfig:
    """How images reach the device."""

    workers: int = 2
    memory_mb: int = 2048
    """A set whose decoded pixels take more than this streams from disk instead."""

    def __post_init__(self) -> None:
        require(0 <= self.workers <= 256, "loader.workers", self.workers, "from 0 to 256")
        require(self.memory_mb >= 0, "loader.memory_mb", self.memory_mb, "0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All options of a run."""

    recipe: Literal["default", "paper"] = "default"
    """`paper` sets the features, generator, weights and normalisation of the ATD paper. Options
    on the command line win over it; those of the file win if the file itself names the recipe."""
    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    atd: AtdConfig = field(default_factory=AtdConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)

    @property
    def evaluation_epsilon(self) -> float:
        """The attack radius of the evaluation."""
        return self.atd.epsilon if self.evaluate.epsilon == -1.0 else self.evaluate.epsilon
