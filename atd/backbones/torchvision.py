"""Any classifier of torchvision as a backbone (`backbone.architecture=torchvision:NAME`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from atd.backbones.foreign import IMAGENET, ForeignBackbone
from atd.errors import UserError, first_line, nearest

__all__ = ["TorchvisionBackbone"]


class TorchvisionBackbone(ForeignBackbone):
    """A torchvision model with fresh weights; nothing is downloaded.

    Args:
        name: torchvision's name of the model, e.g. `resnet18`.
        channels: Channels of an image.
        classes: Number of ID classes.
        image_size: Height and width of an image; models built for one size get it.
        of: `features`, `mean` and `std`, as of every `ForeignBackbone`.

    Raises:
        UserError: The name is unknown, or the model does not suit the images.
    """

    customary = IMAGENET

    def __init__(
        self, name: str, *, channels: int, classes: int, image_size: int, **of: Any
    ) -> None:
        model = _create(name, classes, image_size)
        if channels != 3:
            _take_channels(model, channels)
        title = f"torchvision:{name}"
        super().__init__(model, title, channels=channels, image_size=image_size, **of)


def _create(name: str, classes: int, image_size: int) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(
            f"backbone.architecture=torchvision:{name[:80]}: unknown; the nearest is "
            f"{nearest(name, known)}"
        )
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        options = {"image_size": image_size}
    elif name.startswith("maxvit_"):
        options = {"input_size": (image_size, image_size)}
    try:
        with _RealNumbers() if name.startswith("regnet_") else contextlib.nullcontext():
            model: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"torchvision:{name} cannot be built for {image_size} px: {first_line(error)}"
        ) from None
    return model


class _RealNumbers(TorchFunctionMode):
    """Lets RegNet, which counts its blocks with tensors, be built on the meta device too."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Calls a function of torch."""
        kwargs = dict(kwargs or {})
        if func is torch.arange or (func is torch.tensor and isinstance(args[0], list)):
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


def _take_channels(model: nn.Module, channels: int) -> None:
    """Replaces the first convolution by one for another number of channels."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.in_channels == 3:
            fresh = nn.Conv2d(
                channels,
                layer.out_channels,
                layer.kernel_size,  # type: ignore[arg-type]
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                bias=layer.bias is not None,
            )
            model.set_submodule(name, fresh)
            return
