"""The rows of the training benchmarks: the published step, a ladder of gains, our options."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.published import Gains

__all__ = ["ATD_ROWS", "HAT_ROWS", "AtdRow"]

_BFLOAT16 = "run.precision=bfloat16"


@dataclass(frozen=True)
class AtdRow:
    """A variant of the published step (`gains`), or ours with options of the config."""

    gains: Gains | None = None
    options: tuple[str, ...] = ()

    @property
    def precision(self) -> str:
        """Arithmetic of most of its products."""
        if self.gains is not None:
            return "bfloat16" if self.gains.bfloat16 else "float32"
        return "bfloat16" if _BFLOAT16 in self.options else "float32"


_LADDER = {
    "published style": Gains(),
    "published, input gradient only": Gains(True),
    "and one merged batch": Gains(True, True),
    "and channels last": Gains(True, True, True),
    "and bfloat16": Gains(True, True, True, True),
}

_OURS: dict[str, tuple[str, ...]] = {
    "ours, float32": (),
    "ours, bfloat16": (_BFLOAT16,),
    "ours, bfloat16, compiled": (_BFLOAT16, "run.compile=true"),
}

_CARRIED = "atd.attack_start=carried"

_FEWER: dict[str, tuple[str, ...]] = {
    f"ours, bfloat16, carried start, K = {steps}": (_BFLOAT16, _CARRIED, f"atd.steps={steps}")
    for steps in (1, 3)
}

_SINGLE: dict[str, tuple[str, ...]] = {
    "ours, bfloat16, single-step N-FGSM": (_BFLOAT16, "pretrain.attack=n-fgsm"),
}

ATD_ROWS = {
    **{name: AtdRow(gains) for name, gains in _LADDER.items()},
    "reference": AtdRow(Gains()),
    **{name: AtdRow(options=options) for name, options in (_OURS | _FEWER).items()},
}
"""`reference` is the published repository's own function, where a checkout is given."""

HAT_ROWS = {
    "published style": AtdRow(Gains()),
    "published, input gradient only": AtdRow(Gains(True)),
    "and channels last": AtdRow(Gains(True, False, True)),
    "and bfloat16": AtdRow(Gains(True, False, True, True)),
    **{name: AtdRow(options=options) for name, options in (_OURS | _SINGLE).items()},
}
"""The second row is what HAT's authors run."""
