"""The options of networks and of their training; ranges are checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from atd.config.ranges import require, require_epsilon

__all__ = ["AtdConfig", "BackboneConfig", "PretrainConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneConfig:
    """The feature extractor."""

    architecture: str = "preact_resnet18"
    """preact_resnet18, wide_resnet28, wide_resnet34, or `timm:NAME`."""
    width: int = 64
    """Channels of the first stage (64 is ResNet-18; 160 is WideResNet-x-10)."""
    activation: Literal["relu", "silu"] = "silu"
    stem_stride: int = 0
    """Stride of the first convolution; 0 chooses by image size (1 up to 64 px)."""
    features: Literal["last", "multi"] = "multi"
    """Pooled last layer, or mean and standard deviation pooled from four depths."""
    standardise: bool = True
    """Give the discriminator features with zero mean and unit deviation on ID images."""
    weights: str = ""
    """A local state dict (safetensors or a RobustBench .pt) used instead of pre-training."""

    def __post_init__(self) -> None:
        known = ("preact_resnet18", "wide_resnet28", "wide_resnet34")
        valid = self.architecture in known or self.architecture.startswith("timm:")
        rule = "one of " + ", ".join(known) + " or timm:NAME"
        require(valid, "backbone.architecture", self.architecture, rule)
        require(4 <= self.width <= 1024, "backbone.width", self.width, "from 4 to 1024")
        stride = self.stem_stride
        require(stride in (0, 1, 2, 4, 8), "backbone.stem_stride", stride, "0, 1, 2, 4 or 8")


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """Robust pre-training of the backbone (HAT by default, Rade & Moosavi-Dezfooli 2022)."""

    objective: Literal["hat", "trades", "adversarial", "standard"] = "hat"
    epochs: int = 50
    helper_epochs: int = 50
    """Epochs of the standard-trained helper network (HAT only)."""
    batch_size: int = 128
    """Images per step over all processes."""
    ghost_batch: int = 0
    """Images whose statistics batch normalisation takes together; 0 is the whole batch. Processes
    exchange statistics only if a ghost batch is larger than the share of each."""
    epsilon: float = 8 / 255
    attack: Literal["pgd", "fgsm-rs", "n-fgsm"] = "pgd"
    """`pgd` takes `steps` steps; the others a single one from a random start, which is faster and
    may overfit to itself (a warning tells)."""
    steps: int = 10
    step_schedule: Literal["constant", "rising"] = "constant"
    """`rising`: from 1 to `steps` over the training, in equal shares."""
    step_size: float = 0.0
    """Per step, on the [0, 1] scale; 0 means epsilon / 4 for 10 steps (2/255 at 8/255)."""
    beta: float = 2.5
    """Weight of KL(clean || adversarial); 6 is usual for trades."""
    gamma: float = 0.5
    """Weight of the helper term of HAT."""
    helper_reach: float = 2.0
    """HAT's h: the helper term is taken at x + h * delta."""
    lr: float = 0.21
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.25
    """Share of the steps in which the one-cycle learning rate rises."""
    label_smoothing: float = 0.0
    ema: float = 0.0
    """Decay of the averaged weights that are kept; 0 keeps the raw weights."""

    def __post_init__(self) -> None:
        require_epsilon("pretrain.epsilon", self.epsilon)
        for key, low in (("epochs", 1), ("helper_epochs", 1), ("batch_size", 2), ("steps", 1)):
            require(getattr(self, key) >= low, f"pretrain.{key}", getattr(self, key), f">= {low}")
        ghost = self.ghost_batch
        require(ghost == 0 or ghost >= 2, "pretrain.ghost_batch", ghost, "0 (whole batch) or >= 2")
        require(self.steps <= 1000, "pretrain.steps", self.steps, "at most 1000")
        require(self.lr > 0, "pretrain.lr", self.lr, "positive")
        require(0 < self.warmup < 1, "pretrain.warmup", self.warmup, "between 0 and 1")
        require(0 <= self.ema < 1, "pretrain.ema", self.ema, "0 (off) or below 1")
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, "pretrain.label_smoothing", smoothing, "from 0 to below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class AtdConfig:
    """Adversarial training of the discriminator (ATD, eq. 9)."""

    epochs: int = 20
    batch_size: int = 128
    """ID images per step over all processes; as many outliers and generated features."""
    alpha: float = 0.9
    """Weight of the real outliers; the generated features weigh 1 - alpha (the paper: 0.5)."""
    epsilon: float = 8 / 255
    steps: int = 10
    step_schedule: Literal["constant", "rising"] = "constant"
    """`rising`: from 1 to `steps` over the training, in equal shares."""
    step_size: float = 0.0
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
    finetune_lr: float = 1e-4
    generator: Literal["trained", "frozen", "none"] = "trained"
    generator_objective: Literal["deceive", "boundary", "imitate"] = "imitate"
    """`deceive`: eq. 9, non-saturating. `boundary`: stay where D(G(z)) = generator_target.
    `imitate`: match mean and deviation of the attacked outliers' features."""
    generator_target: float = 0.25
    generator_diversity: float = 0.0
    """Weight of a term that keeps generated samples apart from one another."""
    latent_dim: int = 100
    normalisation: Literal["batch", "layer", "none"] = "layer"
    """Normalisation inside the feature discriminator."""
    lr_discriminator: float = 1e-4
    lr_generator: float = 1e-4

    def __post_init__(self) -> None:
        require_epsilon("atd.epsilon", self.epsilon)
        require(1 <= self.steps <= 1000, "atd.steps", self.steps, "from 1 to 1000")
        require(0.0 <= self.alpha <= 1.0, "atd.alpha", self.alpha, "from 0 to 1")
        target = self.generator_target
        require(0.0 < target < 1.0, "atd.generator_target", target, "between 0 and 1")
        diversity = self.generator_diversity
        require(diversity >= 0, "atd.generator_diversity", diversity, "0 or more")
        for key, low in (("epochs", 1), ("batch_size", 2), ("latent_dim", 1)):
            require(getattr(self, key) >= low, f"atd.{key}", getattr(self, key), f">= {low}")
        for key in ("lr_discriminator", "lr_generator", "finetune_lr"):
            require(getattr(self, key) > 0, f"atd.{key}", getattr(self, key), "positive")
