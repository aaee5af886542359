"""What each stage of a run would do, in a few words."""

from __future__ import annotations

from atd.config import Config
from atd.detectors.kinds import kind_class

__all__ = ["atd", "evaluate", "fit", "helper", "pretrain", "report", "weights"]


def helper(config: Config) -> str:
    """The standard training of HAT's helper."""
    return f"{config.pretrain.helper_epochs} epochs of standard training"


def pretrain(config: Config) -> str:
    """The robust pre-training."""
    options = config.pretrain
    return f"{options.epochs} epochs of {options.objective}, epsilon {_levels(options.epsilon)}"


def weights(config: Config) -> str:
    """Where a given backbone comes from."""
    return f"backbone loaded from {config.backbone.weights}"


def atd(config: Config) -> str:
    """The training of the discriminator."""
    options = config.atd
    attack = f"PGD-{options.steps} at epsilon {_levels(options.epsilon)}"
    pixels = "" if options.features == "backbone" else ", on pixels: no backbone"
    attack = attack if options.adversarial else "no attack"
    return f"{options.epochs} epochs, {attack}, generator {options.generator}{pixels}"


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
    return f"{sets}, tier {config.evaluate.tier}, epsilon {epsilon}"


def report(config: Config) -> str:
    """The report."""
    return f"{config.run.folder / 'report'}"


def _levels(epsilon: float) -> str:
    return f"{epsilon * 255:.3g}/255"
