"""What GAIA and its kin read off a network: gradients at its normalisation layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from atd.backbones.activations import is_normalisation
from atd.backbones.base import Backbone
from atd.backbones.smoothing import makes_zeros
from atd.config.ranges import Range
from atd.config.values import settle
from atd.detectors.fitting import FitData
from atd.errors import UserError

__all__ = [
    "Statistic",
    "StatisticName",
    "StatisticOptions",
    "channels_of",
    "gradients_at",
    "in_parts",
    "refuse_dead",
    "require_normalisation",
]

StatisticName = Literal["auto", "zeros", "share", "spread"]

_PIXELS = 128 * 32 * 32
_SOFT = 0.3
"""Where the soft count of non-zero places is one half; of 0.1, 0.3 and 1 the one that gave attacks
the most."""
_TINY = 1e-20


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticOptions:
    """What is read off a gradient: the options of GAIA-Z, and some of S & I."""

    statistic: StatisticName = "auto"
    """`zeros` (GAIA's paper), `share` or `spread` (ours, for networks without rectifiers); `auto`
    is `zeros` on networks of rectifiers and `share` on others."""
    tau: Annotated[float, Range(0, 100)] = 0.1
    """Threshold of `share`, in units of the root mean square of a layer's gradient."""

    def __post_init__(self) -> None:
        settle(self, "detector")


@dataclass(frozen=True)
class Statistic:
    """How dense a layer's gradient is in each channel, a number from 0.

    With u the gradient over its root mean square in the layer:

    * `zeros`: the share of places where it is not exactly zero (GAIA-Z); 1 on every network
      without rectifiers.
    * `share` (ours): the share of places where |u| > tau.
    * `spread` (ours): the mean of |u|, which equals the root of the share of non-zero places
      where those are all alike.

    The last two do not depend on the gradient's scale, so that they tell, as `zeros` does, how it
    is spread out and not how large it is.

    Attributes:
        name: One of the three.
        tau: The threshold of `share`.
    """

    name: StatisticName
    tau: float

    @classmethod
    def of(cls, name: StatisticName, tau: float, network: nn.Module) -> Statistic:
        """The statistic that was chosen; `auto` is `zeros` on rectifiers, else `share`."""
        if name == "auto":
            name = "zeros" if makes_zeros(network) else "share"
        return cls(name, tau)

    def __call__(self, gradient: Tensor, *, soft: bool = False) -> Tensor:
        """A number for each channel.

        Args:
            gradient: (N, C, P): channels and places.
            soft: Count by u^2 / (u^2 + c^2), which is one half at u = c, the threshold.

        Returns:
            (N, C).
        """
        if self.name == "zeros" and not soft:
            return (gradient != 0).to(gradient.dtype).mean(2)
        # Gradients below 1e-19 have squares that float32 does not hold.
        largest = gradient.abs().amax((1, 2), keepdim=True).detach()
        scaled = gradient / largest.clamp_min(torch.finfo(gradient.dtype).tiny)
        unit = scaled / (scaled.square().mean((1, 2), keepdim=True) + _TINY).sqrt()
        if self.name == "spread":
            return unit.abs().mean(2)
        if not soft:
            return (unit.abs() > self.tau).to(gradient.dtype).mean(2)
        half = _SOFT if self.name == "zeros" else max(self.tau, _SOFT)
        return (unit.square() / (unit.square() + half**2)).mean(2)

    def score(self, gradients: Sequence[Tensor], *, soft: bool = False) -> Tensor:
        """Mean square over the channels of all layers (N,), from gradients (N, C, P) of each."""
        return torch.cat([self(part, soft=soft) for part in gradients], dim=1).square().mean(1)


def gradients_at(
    values: Sequence[Tensor],
    summed: Callable[[], Tensor],
    *,
    differentiable: bool = False,
    keep: bool = False,
) -> tuple[Tensor, ...]:
    """Gradients of a sum with respect to values inside a network, also within `torch.no_grad`.

    Args:
        values: What a recording with `gradients=True` has kept.
        summed: Gives what is summed, from the recording's output.
        differentiable: The gradients can be differentiated again.
        keep: More will be asked of the same recording.

    Returns:
        One for each value, zero where the sum does not depend on it.
    """
    with torch.enable_grad():
        total = summed().sum()
    return torch.autograd.grad(
        total,
        values,
        retain_graph=keep or differentiable,
        create_graph=differentiable,
        materialize_grads=True,
    )


def channels_of(network: nn.Module, label: str, value: Tensor) -> Tensor:
    """A layer's value, or its gradient, as (N, C, P): channels and places.

    Args:
        network: The network.
        label: The layer's label in a recording.
        value: (N, C, ...), or (N, ..., C) where the layer normalises the last axis.
    """
    layer = network.get_submodule(label.partition("#")[0])
    normalised = isinstance(layer, nn.LayerNorm | nn.RMSNorm)
    if normalised and not type(layer).__name__.endswith("2d"):  # timm's work on the second axis
        value = value.movedim(-1, 1)
    return value.flatten(2) if value.ndim > 2 else value.unsqueeze(2)


def in_parts(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Values (N,) of images, without a graph, from passes of bounded size.

    A pass takes as many pixels as 128 images of 32 px or two of 224 px have (at least one image),
    for which a ResNet-18 or ResNet-50 takes about one GB.
    """
    count = max(1, _PIXELS // images.shape[-2:].numel())
    return torch.cat([function(part).detach() for part in images.detach().split(count)])


def require_normalisation(backbone: Backbone, kind: str) -> None:
    """Refuses a network without normalisation layers.

    Raises:
        UserError: It has none.
    """
    if not any(is_normalisation(name, part) for name, part in backbone.named_modules()):
        raise UserError(
            f"detector.kind={kind} reads normalisation layers, and {backbone.title} has none; "
            "choose another detector.kind or backbone"
        )


def refuse_dead(gradients: Callable[[Tensor], Sequence[Tensor]], data: FitData) -> None:
    """Refuses a network whose inner gradients are zero on the whole first batch of ID images.

    Args:
        gradients: Gives the gradients inside, for images.
        data: The images; none are needed.

    Raises:
        UserError: Every gradient is zero, or one is not finite.
    """
    for images, _ in data.id:
        found = gradients(images)
        if not all(part.isfinite().all() for part in found):
            raise UserError(
                "the backbone gives values that are not finite; its weights are damaged"
            )
        if not any(part.any() for part in found):
            raise UserError(
                "every gradient inside the network is zero (a dead network): "
                "give a trained classifier as backbone"
            )
        return
