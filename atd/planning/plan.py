"""Which stages a run has, and what each would do, in a few words."""

from __future__ import annotations

from atd.config import Config
from atd.detectors.kinds import kind_class
from atd.training.objectives import objective_of

__all__ = [
    "atd",
    "evaluate",
    "fit",
    "helper",
    "is_atd",
    "needs_helper",
    "needs_outliers",
    "pretrain",
    "pretrains",
    "report",
    "takes_weights",
    "trainings",
    "weights",
]


def pretrains(config: Config) -> bool:
    """Whether a run trains its backbone."""
    return config.atd.features == "backbone" and not config.backbone.weights


def needs_helper(config: Config) -> bool:
    """Whether it trains a helper before."""
    return pretrains(config) and objective_of(config.pretrain.objective).helped


def takes_weights(config: Config) -> bool:
    """Whether it is given its backbone."""
    return config.atd.features == "backbone" and bool(config.backbone.weights)


def is_atd(config: Config) -> bool:
    """Whether it trains a discriminator; other kinds are fitted."""
    return config.detector_kind == "atd"


def needs_outliers(config: Config) -> bool:
    """Whether a pre-training, the detector or a baseline learns from outliers."""
    kinds = [(config.detector_kind, "detector.kind")]
    kinds += [(kind, "evaluate.baselines") for kind in config.evaluate.baselines]
    learns = pretrains(config) and objective_of(config.pretrain.objective).beside == "outliers"
    return learns or any("outliers" in kind_class(*kind).info.needs for kind in kinds)


def trainings(config: Config) -> set[str]:
    """The stages of a run that train."""
    applies = {"helper": needs_helper, "pretrain": pretrains, "atd": is_atd}
    return {stage for stage, applied in applies.items() if applied(config)}


def helper(config: Config) -> str:
    """The standard training of HAT's helper."""
    options = config.pretrain
    return f"{_length(options.helper_epochs, options.helper_min_steps)} of standard training"


def pretrain(config: Config) -> str:
    """The robust pre-training."""
    options = config.pretrain
    length = _length(options.epochs, options.min_steps)
    return f"{length} of {options.objective}, epsilon {_levels(options.epsilon)}"


def weights(config: Config) -> str:
    """Where a given backbone comes from."""
    return f"backbone loaded from {config.backbone.weights}"


def atd(config: Config) -> str:
    """The training of the discriminator."""
    options = config.atd
    attack = f"PGD-{options.steps} at epsilon {_levels(options.epsilon)}"
    pixels = "" if options.features == "backbone" else ", on pixels: no backbone"
    attack = attack if options.adversarial else "no attack"
    length = _length(options.epochs, options.min_steps)
    return f"{length}, {attack}, generator {options.generator}{pixels}"


def fit(config: Config) -> str:
    """The fit of a detector that is not trained."""
    kind = config.detector_kind
    info = kind_class(kind).info
    options = [f"{name} {value}" for name, value in config.detector.items() if name != "kind"]
    read = "ID images" + (" and their labels" if "labels" in info.needs else "")
    read += " and outliers" if "outliers" in info.needs else ""
    work = f"fitted to {read}" if "fitting" in info.needs else "nothing to fit"
    return f"{', '.join([f'{kind} ({info.paper})', *options])}; {work}"


def evaluate(config: Config) -> str:
    """The evaluation."""
    data = config.data
    listed = f"{len(data.ood_test) + len(data.near_test)} OOD sets"
    sets = f"OOD sets of protocol {data.protocol}" if data.protocol else listed
    epsilon = _levels(config.evaluation_epsilon)
    options = config.evaluate
    copies = f", certificate by {options.certify_draws:,} noisy copies of each image"
    certified = copies if options.certify else ""
    return f"{sets}, tier {options.tier}, epsilon {epsilon}{certified}"


def report(config: Config) -> str:
    """The report."""
    return f"{config.run.folder / 'report'}"


def _length(epochs: int, least: int) -> str:
    if epochs == 1 and least:
        return f"at least {least} steps"
    return f"{epochs} epochs"


def _levels(epsilon: float) -> str:
    return f"{epsilon * 255:.3g}/255"
