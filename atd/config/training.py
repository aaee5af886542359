"""The options of networks and of their training; ranges are checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from atd.config.ranges import Count, Epsilon, LearningRate, Limit, Range, Steps, Weight, require
from atd.config.values import settle

__all__ = ["AtdConfig", "BackboneConfig", "PretrainConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneConfig:
    """The feature extractor."""

    architecture: str = "preact_resnet18"
    """preact_resnet18, wide_resnet28, wide_resnet34, `timm:NAME`, `torchvision:NAME`, or
    `import:MODULE:CALLABLE` for a classifier of one's own."""
    width: Annotated[int, Range(4, 1024, auto=True)] = 64
    """Channels of the first stage (64 is ResNet-18; 160 is WideResNet-x-10); `auto` (0): 16 with a
    stem of stride 2, or what `run.budget` has time for."""
    activation: Literal["relu", "silu"] = "silu"
    stem_stride: Literal[0, 1, 2, 4, 8] = 0
    """Stride of the first convolution; 0 chooses by image size (1 up to 64 px)."""
    features: Literal["last", "multi"] = "multi"
    """Pooled last layer, or mean and standard deviation pooled from four depths."""
    standardise: bool = True
    """Give the discriminator features with zero mean and unit standard deviation on ID images."""
    weights: str = ""
    """A state dict on disk, or the folder of a detector, used instead of pre-training."""
    mean: list[Annotated[float, Range(0, 1, note="on the [0, 1] scale")]] = field(
        default_factory=list
    )
    """What the network subtracts from each channel of images in [0, 1] (one value, or one for
    each); empty takes it from the weights, else from the ID images."""
    std: list[Annotated[float, Range(0.001, 10, note="on the [0, 1] scale")]] = field(
        default_factory=list
    )
    """What it divides by, likewise."""
    outlier_class: bool = False
    """One logit more than there are classes, for outliers (pretrain.objective=atom sets it);
    detector.kind=outlier_class reads it, and other kinds take it for a class."""
    denoising: bool = False
    """Layers that denoise the maps, a decoder and a rotation head (pretrain.objective=osad sets
    it)."""

    def __post_init__(self) -> None:
        settle(self, "backbone")
        known = ("preact_resnet18", "wide_resnet28", "wide_resnet34")
        kind, _, name = self.architecture.partition(":")
        valid = self.architecture in known or (kind in ("timm", "torchvision", "import") and name)
        rule = f"{', '.join(known)}, timm:NAME, torchvision:NAME or import:MODULE:CALLABLE"
        require(bool(valid), "backbone.architecture", self.architecture, rule)
        both = bool(self.mean) == bool(self.std)
        require(both, "backbone.std", self.std, "given exactly where backbone.mean is")


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """Robust pre-training of the backbone (HAT by default, Rade & Moosavi-Dezfooli 2022)."""

    objective: Literal[
        "hat", "trades", "adversarial", "standard", "oe", "aoe", "aloe", "halo", "atom", "osad"
    ] = "hat"
    """What the backbone is trained for; oe, aoe, aloe, halo and atom learn from outliers too."""
    epochs: Count = 50
    helper_epochs: Count = 50
    """Epochs of the standard-trained helper network (hat and halo only)."""
    min_steps: Steps = 0
    """Steps to be taken at least: few images are passed through more often than `epochs` says, and
    judged every 20 steps at most and about 8 times. 0 counts epochs only."""
    helper_min_steps: Steps = 0
    """Likewise for the helper."""
    batch_size: Annotated[int, Range(2, 1_000_000)] = 128
    """Images per step over all processes."""
    ghost_batch: Annotated[int, Range(0, 1_000_000)] = 0
    """Images whose statistics batch normalisation takes together; 0 is the whole batch. Processes
    exchange statistics only if a ghost batch is larger than the share of each."""
    epsilon: Epsilon = 8 / 255
    attack: Literal["pgd", "fgsm-rs"] = "pgd"
    """`pgd` takes `steps` steps; `fgsm-rs` a single one from a random start (Wong et al. 2020),
    which is faster and may overfit to itself (a warning tells)."""
    steps: Annotated[int, Range(1, 1000)] = 10
    step_schedule: Literal["constant", "rising"] = "constant"
    """`rising`: from 1 to `steps` over the training, in equal shares."""
    step_size: Annotated[float, Range(0, 1)] = 0.0
    """Per step, on the [0, 1] scale; 0 means epsilon / 4 for 10 steps (2/255 at 8/255)."""
    beta: Weight = 2.5
    """Weight of KL(clean || adversarial); 6 is usual for trades, 3 for halo."""
    gamma: Weight = 0.5
    """Weight of the helper term of HAT."""
    helper_reach: Weight = 2.0
    """HAT's h: the helper term is taken at x + h * delta."""
    outlier_weight: Weight = 0.0
    """Weight of the outliers' loss; 0 is the published one: 0.5, atom 1, halo 2."""
    mining_pool: Limit = 0
    """Outliers among which atom mines in each epoch (0 = all), a new sample every time."""
    mining_quantile: Annotated[float, Range(0, 1, below=True)] = 0.125
    """Share of the pool that atom passes over: the outliers that look most like ID images."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """`adamw` trains vision transformers, with `lr` of about 1e-3; `momentum` is its first beta."""
    lr: LearningRate = 0.21
    momentum: Annotated[float, Range(0, 1, below=True)] = 0.9
    weight_decay: Annotated[float, Range(0, 1)] = 5e-4
    warmup: Annotated[float, Range(0, 1, above=True, below=True)] = 0.25
    """Share of the steps in which the one-cycle learning rate rises."""
    label_smoothing: Annotated[float, Range(0, 1, below=True)] = 0.0
    ema: Annotated[float, Range(0, 1, below=True)] = 0.0
    """Decay of the averaged weights that are kept; 0 keeps the raw weights."""

    def __post_init__(self) -> None:
        settle(self, "pretrain")
        ghost = self.ghost_batch
        require(ghost != 1, "pretrain.ghost_batch", ghost, "0 (whole batch) or at least 2")


@dataclass(frozen=True, slots=True, kw_only=True)
class AtdConfig:
    """Adversarial training of the discriminator (ATD, eq. 9)."""

    epochs: Count = 20
    min_steps: Steps = 0
    """Steps to be taken at least, as `pretrain.min_steps`."""
    batch_size: Annotated[int, Range(2, 1_000_000)] = 128
    """ID images per step over all processes; as many outliers and generated features."""
    alpha: Annotated[float, Range(0, 1)] = 0.9
    """Weight of the real outliers; the generated features weigh 1 - alpha (the paper: 0.5)."""
    epsilon: Epsilon = 8 / 255
    steps: Annotated[int, Range(1, 1000)] = 10
    step_schedule: Literal["constant", "rising"] = "constant"
    """`rising`: from 1 to `steps` over the training, in equal shares."""
    step_size: Annotated[float, Range(0, 1)] = 0.0
    """Per step, on the [0, 1] scale; 0 means 2.5 * epsilon / steps."""
    attack_start: Literal["random", "carried"] = "random"
    """Where the attack of an image starts: at a random point, or where its last one ended."""
    adversarial: bool = True
    """Attack ID and outlier images in every step; false trains on clean images."""
    attack_generated: bool = False
    """Attack what the generator makes as well (an ablation of the paper)."""
    features: Literal["backbone", "pixels"] = "backbone"
    """Discriminate backbone features, or images with a DCGAN and no backbone (ablation)."""
    finetune: bool = False
    """Let the discriminator's loss train the backbone too."""
    finetune_lr: LearningRate = 1e-4
    generator: Literal["trained", "frozen", "none"] = "trained"
    generator_objective: Literal["deceive", "imitate"] = "imitate"
    """`deceive`: eq. 9, non-saturating. `imitate`: match mean and deviation of the attacked
    outliers' features."""
    generator_diversity: Weight = 0.0
    """Weight of a term that keeps generated samples apart from one another."""
    ema: Annotated[float, Range(0, 1, below=True)] = 0.0
    """Decay of the averaged weights that are kept; 0 keeps the raw weights."""
    latent_dim: Annotated[int, Range(1, 10_000)] = 100
    normalisation: Literal["batch", "layer", "none"] = "layer"
    """Normalisation inside the feature discriminator."""
    batch_statistics: bool = False
    """Normalise by the statistics of the batch that is *scored*, as OpenGAN's published evaluation
    does: a leak, for scores then depend on batch mates."""
    lr_discriminator: LearningRate = 1e-4
    lr_generator: LearningRate = 1e-4
    as_released: bool = False
    """Train as the authors' released code does, which differs from their paper
    (`atd.training.released_gan`); `recipe=published` sets it. To compare with, and nothing else."""

    def __post_init__(self) -> None:
        settle(self, "atd")
        rule = "false where atd.generator=trained: the released code never trains it"
        require(
            not (self.as_released and self.generator == "trained"),
            "atd.as_released",
            self.as_released,
            rule,
        )
        leaks, rule = self.batch_statistics, "false unless atd.normalisation=batch"
        require(not leaks or self.normalisation == "batch", "atd.batch_statistics", leaks, rule)
