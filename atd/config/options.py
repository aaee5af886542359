"""The options of a run: frozen dataclasses whose ranges are checked when they are made.

Each group of the YAML file is one class. `atd.config` fills them from file and command line. A
number is declared with its `Range`; `settle` reads and checks the options of a group.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from atd.config.ranges import Limit, Range, duration, require
from atd.config.training import AtdConfig, BackboneConfig, PretrainConfig
from atd.config.values import settle

__all__ = [
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "LoaderConfig",
    "RunConfig",
    "Scale",
]

Scale = Literal["auto", "8bit", "10bit", "12bit", "14bit", "16bit"]
"""How many bits of an image of more than 8 bits are used; `auto`: all that its file type has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Where a run lives and on what it runs."""

    name: str = "digits"
    dir: str = ""
    """Run folder; empty means `checkpoints/<run.name>`."""
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    budget: str = ""
    """Time for the whole run on this machine, its evaluation included: `30m`, `2h`, `90s`, or
    seconds. The lengths of the stages, the network's size where it is `auto`, and the tier, images
    and baselines of the evaluation are chosen to fit. Empty: the options count as they are."""
    threads: Annotated[int, Range(0, 4096)] = 0
    """Threads of each process on the CPU; 0 takes as many as it has cores, by its affinity and
    the quota of its container, or `OMP_NUM_THREADS` where that is set."""
    deterministic: bool = True
    """Ask torch for deterministic algorithms (CPU runs are bit-identical with it)."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """Arithmetic of the backbone while *training*; evaluation is always float32. `auto` takes
    bfloat16 where the device multiplies it in hardware."""
    compile: bool = False
    """Compile the passes through the frozen backbone in training (torch.compile; CUDA graphs on a
    GPU) and the detector for its evaluation. It takes minutes before it saves any."""
    device_batch: Annotated[int, Range(0, 1_000_000)] = 0
    """Most images of a batch that a process handles at once in training (0 = all of its share).
    It divides the work, not the result: a step's gradient is summed over these micro-batches."""
    keep: Annotated[int, Range(1, 100)] = 2
    """Training states to keep of each stage; a damaged one gives way to the one before it."""
    save_minutes: Annotated[float, Range(0, 10080)] = 10.0
    """Save within an epoch whenever this many minutes have passed; 0 saves after every step."""
    timeout_minutes: Annotated[float, Range(0, 10080, above=True)] = 30.0
    """Processes that wait so long for a silent one end, and name it. It must be longer than one
    works alone: the first one reads all images at the start while the others wait."""
    rank_logs: bool = False
    """Every process writes `logs/rank-N.log` in the run folder."""

    def __post_init__(self) -> None:
        settle(self, "run")
        named = re.fullmatch(r"[\w.-]{1,100}", self.name) and self.name.strip(".")
        require(bool(named), "run.name", self.name, "a folder name of letters, digits, _, . and -")
        duration(self.budget, "run.budget")

    @property
    def seconds(self) -> float:
        """The budget in seconds; 0 where there is none."""
        return duration(self.budget, "run.budget")

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
    """Outlier source for training; empty means offline ones of many kinds: `bundled:fallback`,
    `bundled:procedural` and altered ID images."""
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
    image_size: Annotated[int, Range(8, 512, auto=True)] = 32
    """Side to which images are made; `auto` (0): 32, or that of the ID images where most of them
    are smaller."""
    channels: Literal[1, 3] = 3
    """3 (grey images are repeated) or 1 (colour images become grey)."""
    root: str = "data"
    """Where torchvision data sets lie or are downloaded to."""
    id_limit: Limit = 0
    """Use at most this many ID images for training (0 = all), a seeded subset."""
    outlier_limit: Limit = 0
    ood_limit: Limit = 0
    """At most this many images of every OOD test set (0 = all), a seeded subset."""
    val_fraction: Annotated[float, Range(0, 0.5, above=True)] = 0.1
    """Share of the ID training images, and of the outliers, held out for validation."""
    test_fraction: Annotated[float, Range(0, 0.5, above=True)] = 0.2
    """Share held out as ID test where the ID source has no test split of its own."""
    scale: Scale = "auto"
    """What is white in images of more than 8 bits a channel: a 12-bit camera that writes 16-bit
    files needs `12bit`. `auto`: integers span 16 bits; floats [0, 1] or, where one is larger,
    [0, 255]. It is stored with the detector."""
    skip_corrupt: bool = False
    """Leave out unreadable images with a count instead of stopping."""
    augment: Literal["none", "crop", "crop-flip"] = "crop-flip"

    def __post_init__(self) -> None:
        settle(self, "data")
        require(bool(self.id), "data.id", self.id, "a source such as cifar10 or folder:PATH")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """How a detector is judged."""

    tier: Literal["smoke", "paper", "standard", "strong"] = "paper"
    """smoke: PGD-10; paper: PGD-100 once; standard: APGD from three starts as well; strong: from
    five, and feature-space, transfer and Square attacks (`atd.evaluation.tiers`)."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the attack's ball; Square is left out for l2."""
    epsilon: Annotated[float, Range(-1, 1000)] = -1.0
    """Attack radius on the [0, 1] pixel scale; -1 means the radius the detector was trained for
    (atd.epsilon, in L-inf, which is next to nothing in l2: name one there)."""
    steps: Annotated[int, Range(0, 10_000)] = 0
    """0 means the tier's number."""
    restarts: Annotated[int, Range(0, 100)] = 0
    """0 means the tier's number."""
    limit: Limit = 0
    """At most this many images per set (0 = all), a seeded subset."""
    batch_size: Annotated[int, Range(1, 100_000)] = 256
    baselines: list[str] = field(default_factory=lambda: ["msp", "mahalanobis"])
    """Scores of the same backbone to compare with, attacked in the same way."""
    certify: bool = False
    """Bound the AUROC under every L2 attack there is, by median smoothing of the score
    (`atd.evaluation.certificate`); no gradient is needed. It takes `certify_draws` passes an
    image, and says before how long that is."""
    certify_sigma: Annotated[float, Range(0, 10, above=True)] = 0.25
    """Standard deviation of the noise on the [0, 1] pixel scale."""
    certify_draws: Annotated[int, Range(30, 1_000_000)] = 1000
    """Noisy copies of each image; more of them reach further and bound more tightly."""
    certify_radii: list[Annotated[float, Range(0, 1000, above=True)]] = field(
        default_factory=lambda: [0.1, 0.2, 0.25, 0.3, 0.4, 0.5]
    )
    """L2 radii on the [0, 1] pixel scale. What lies beyond about 2 * certify_sigma (with 1,000
    draws) cannot be bounded."""
    certify_confidence: Annotated[float, Range(0.5, 1, below=True)] = 0.999
    """Probability, over the noise, with which all bounds of the certificate hold at once."""

    def __post_init__(self) -> None:
        settle(self, "evaluate")
        radii = self.certify_radii
        require(0 < len(radii) <= 100, "evaluate.certify_radii", radii, "1 to 100 radii")
        self._require_radius()

    def _require_radius(self) -> None:
        most, example = (1, "8/255") if self.norm == "linf" else (1000, "0.5")
        rule = f"between 0 and {most} on the [0, 1] pixel scale, e.g. {example}, or -1"
        suits = self.epsilon == -1.0 or 0.0 <= self.epsilon <= most
        require(suits, "evaluate.epsilon", self.epsilon, rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderConfig:
    """How images reach the device."""

    workers: Annotated[int, Range(0, 256)] = 2
    memory_mb: Annotated[int, Range(0, 10_000_000)] = 2048
    """A set whose decoded pixels take more than this streams from disk instead."""

    def __post_init__(self) -> None:
        settle(self, "loader")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All options of a run."""

    recipe: Literal["default", "paper", "published", "opengan"] = "default"
    """`paper` sets the features, generator, attack, weights and normalisation of the ATD paper,
    `published` what its released code does instead (`atd.as_released`), `opengan` those of OpenGAN,
    which is attacked nowhere (with atd.features=pixels: OpenGAN-pixel). Options on the command line
    win over it; those of the file win if the file itself names the recipe."""
    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    detector: dict[str, Any] = field(default_factory=lambda: {"kind": "atd"})
    """The kind of detector (`atd.detectors.kinds`) and that kind's own options, as they are
    written; `atd.detectors.kinds.resolved` reads and checks them."""
    atd: AtdConfig = field(default_factory=AtdConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)

    def __post_init__(self) -> None:
        settle(self, "")
        object.__setattr__(self, "detector", {"kind": "atd", **self.detector})
        kind = self.detector["kind"]
        require(isinstance(kind, str), "detector.kind", kind, "a kind, e.g. energy")

    @property
    def detector_kind(self) -> str:
        """The kind of detector."""
        return str(self.detector["kind"])

    @property
    def evaluation_epsilon(self) -> float:
        """The attack radius of the evaluation."""
        return self.atd.epsilon if self.evaluate.epsilon == -1.0 else self.evaluate.epsilon
