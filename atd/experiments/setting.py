"""A config at a scale: what the rows of one table have in common."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atd.config import Config, load
from atd.detectors.kinds import resolved
from atd.run_options import chosen

__all__ = ["SCALES", "Scale", "Setting"]


@dataclass(frozen=True)
class Scale:
    """How large an experiment is.

    Attributes:
        options: What it changes in a config.
        of_kind: Options of kinds that would take too long, or more images than there are.
    """

    options: tuple[str, ...]
    of_kind: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


SCALES = {
    "smoke": Scale(
        (
            *("data.id_limit=80", "data.outlier_limit=60", "data.ood_limit=20"),
            *("data.image_size=8", "backbone.width=4", "backbone.features=last"),
            *("pretrain.epochs=1", "pretrain.helper_epochs=1", "pretrain.batch_size=32"),
            *("pretrain.ghost_batch=0", "pretrain.steps=2", "atd.epochs=1", "atd.batch_size=16"),
            *("atd.steps=2", "atd.latent_dim=8", "evaluate.tier=smoke", "evaluate.limit=4"),
            "evaluate.certify_draws=60",
        ),
        {
            "confounding_gradients": ("hidden=8", "epochs=3"),
            "daain": ("points=32", "blocks=2", "hidden=8", "epochs=2"),
            "knn": ("k=3",),
            "openmax": ("tail=3",),
            "vim": ("dimension=8",),
        },
    ),
    "small": Scale(("evaluate.tier=paper", "evaluate.limit=60"), {"daain": ("epochs=30",)}),
    "paper": Scale(()),
    "speed": Scale(
        (
            *("data.id_limit=600", "data.outlier_limit=400"),
            *("pretrain.objective=standard", "pretrain.epochs=1"),
            *("atd.adversarial=false", "atd.epochs=1", "atd.steps=1"),
        ),
        {"confounding_gradients": ("epochs=1",), "daain": ("epochs=1",)},
    ),
}
"""How large: `speed` is the config's own size, hardly trained."""


@dataclass(frozen=True)
class Setting:
    """One table: a config at a scale.

    Attributes:
        config: YAML file, or the name of a shipped one.
        scale: A key of `SCALES`.
        overrides: Further options, which win over those of the scale.
    """

    config: str
    scale: str
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its folders and rows; other overrides give another."""
        name = f"{Path(self.config).stem}-{self.scale}"
        if not self.overrides:
            return name
        digest = hashlib.sha256("\0".join(self.overrides).encode("utf-8", "surrogatepass"))
        return f"{name}-{digest.hexdigest()[:8]}"

    @functools.cached_property
    def digest(self) -> str:
        """Of its options: an edited config has another."""
        options = chosen(load(self.config, [*SCALES[self.scale].options, *self.overrides]))
        return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()

    def made(self, run: Mapping[str, Any]) -> bool:
        """Whether a row of this name is of this config; older ones do not tell its options."""
        config, digest = run.get("config", self.config), run.get("setting_sha256", self.digest)
        return bool(config == self.config and digest == self.digest)

    def options_of(self, kind: str) -> list[str]:
        """Options of a kind that are not its defaults."""
        return [f"detector.{words}" for words in SCALES[self.scale].of_kind.get(kind, ())]

    def resolved(self, kind: str, seed: int, folder: Path, *more: str) -> Config:
        """All options of a kind with a seed.

        Raises:
            UserError: An option is unknown or impossible.
        """
        common = [*SCALES[self.scale].options, "evaluate.baselines=", *self.overrides]
        last = [
            f"detector.kind={kind}",
            *self.options_of(kind),
            f"run.seed={seed}",
            f"run.dir={folder}",
        ]
        return resolved(load(self.config, [*common, *last, f"run.name={kind}", *more]))
