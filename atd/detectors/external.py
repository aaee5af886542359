"""Somebody else's detector: any torch module or callable that gives each image a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from atd.detectors.base import Detector, DetectorInfo
from atd.detectors.callables import CallableModule
from atd.detectors.identity import content_digest
from atd.errors import UserError, first_line
from atd.inference import frozen

__all__ = ["External"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalOptions:
    """There are none: options of a foreign detector lie inside it."""


class External(Detector):
    """A foreign detector, to be attacked, evaluated, scored with, and exported if torch traces it.

    The module is called with float images (N, C, H, W) in [0, 1] and gives scores (N,); larger =
    more likely OOD. Nothing else is asked of it: attributes such as `features` or `logits` are
    its own affair. It is shared, not copied, and left in the mode it is in. What is no module
    (pytorch-ood's fitted detectors, functions) moves between devices and types with the modules
    and tensors that it holds, see `CallableModule`; what cannot compute in float64 stays in
    float32.

    Args:
        module: The module or callable.
        image_size: Side of an image in pixels.
        channels: 3 or 1.
        name: What it is called in reports; default: the name of its class or function.

    Raises:
        UserError: It is not callable, fails, or gives something else than one finite number per
            image.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(192, 1), nn.Flatten(0))
        >>> External(net, image_size=8, channels=3).score(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2])
    """

    kind = "external"
    Options = ExternalOptions
    info = DetectorInfo(title="External", paper="its author's")

    def __init__(
        self,
        module: Callable[[Tensor], Any],
        *,
        image_size: int,
        channels: int,
        name: str | None = None,
    ) -> None:
        if not callable(module) or isinstance(module, type):
            raise UserError(f"atd.External: {_named(module)} is not a module or a callable object")
        try:
            super().__init__(
                None, image_size=image_size, channels=channels, name=name or _named(module)
            )
        except ValueError as error:
            raise UserError(f"atd.External: {error}") from None
        self.module = module if isinstance(module, nn.Module) else CallableModule(module)
        """What is called."""
        self._single = False
        self.training = False
        self._try_out(self._dtype())

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1], as the module gives them."""
        scores = self.module(images.float() if self._single else images)
        name = self.config.name
        if not isinstance(scores, Tensor):
            kind = type(scores).__name__
            raise UserError(f"{name} returned a {kind}, not a tensor of one number per image")
        # A comparison of whole shapes would fix the batch size of an export.
        if scores.ndim != 1 or scores.shape[0] != images.shape[0]:
            hint = "; squeeze(1) makes it one" if scores.shape == (len(images), 1) else ""
            raise UserError(
                f"{name} returned scores of shape {tuple(scores.shape)}, it must be one number "
                f"per image, ({len(images)},){hint}"
            )
        if not scores.is_floating_point():
            raise UserError(f"{name} returned scores of type {scores.dtype}: they must be floats")
        return scores.to(images.dtype) if self._single else scores

    def identity(self) -> bytes:
        """Kind, code, and all that the foreign object holds."""
        return super().identity() + content_digest(self.module)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> External:
        super()._apply(fn, recurse)
        if fn(torch.zeros(0)).dtype == torch.float64:
            try:
                self._try_out(torch.float64)  # it may hold networks that nothing here sees
            except UserError:  # it converts to float32 itself, somewhere
                super()._apply(_single, recurse)
                self._single = True
        return self

    @torch.no_grad()
    def _try_out(self, dtype: torch.dtype) -> None:
        size, channels = self.config.image_size, self.config.channels
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(3, channels, size, size, generator=generator)
        images = noise.to(self.device, dtype)
        with frozen(self):
            for some in (images[:1], images):
                try:
                    scores = self(some)
                except UserError:
                    raise
                except Exception as error:  # whatever somebody else's code raises
                    raise UserError(
                        f"{self.config.name} raised {type(error).__name__} on images of shape "
                        f"{tuple(some.shape)}: {first_line(error)}"
                    ) from None
                if not scores.isfinite().all():
                    raise UserError(f"{self.config.name} gives noise a score that is not finite")


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def _named(value: object) -> str:
    name: str = getattr(value, "__name__", type(value).__name__)
    return name
