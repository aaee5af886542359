"""The user's own classifier as a backbone (`backbone.architecture=import:MODULE:CALLABLE`)."""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from atd.backbones.base import Backbone, Features
from atd.backbones.dense import DenseBackbone, pixel_classes
from atd.backbones.foreign import ForeignBackbone, explored, without_chance
from atd.errors import UserError
from atd.own_code import call_own_code

__all__ = ["allow_import", "imported_backbone"]

_allowed: set[str] = set()
_VARIABLE = "ATD_IMPORT"
"""Names, separated by commas, that the user of a command allows."""


def allow_import(architecture: str) -> None:
    """Allows an `import:` backbone for the rest of this process, because its user named it.

    A detector folder may come from a stranger, and what it names is code: nothing is imported
    that was not named by the user too. Other architectures need no permission.

    Args:
        architecture: A value of `backbone.architecture`, e.g. `import:my_net:make`.
    """
    if architecture.startswith("import:"):
        _allowed.add(architecture.removeprefix("import:"))


def imported_backbone(
    words: str,
    *,
    channels: int,
    image_size: int,
    features: Features,
    **of: Any,
) -> Backbone:
    """Makes a backbone of what the user's callable returns: a module for images in [0, 1].

    Its number of classes is that of its logits, which are those of an image (N, K) or of every
    pixel (N, K, H, W). Nothing is normalised before it unless `backbone.mean` and `backbone.std`
    say so.

    Args:
        words: `MODULE:CALLABLE`; the callable takes no arguments.
        channels: Channels of an image.
        image_size: Height and width of an image.
        features: `last` or `multi`.
        of: `mean` and `std`, as of every `Backbone`.

    Raises:
        UserError: Nobody allowed it, it fails, or it returns something else.
    """
    named = os.environ.get(_VARIABLE, "").split(",")
    if words not in _allowed and words not in named:
        raise UserError(
            f"the detector's backbone is code of its maker's, import:{words[:120]}, which runs "
            f"only if you name it too: set {_VARIABLE}=MODULE:CALLABLE in the environment, or "
            "call atd.backbones.allow_import in Python"
        )
    key, title = "backbone.architecture", f"import:{words}"
    model = call_own_code(words, key)
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise UserError(f"{key}: {title} returned a {kind}, not a torch.nn.Module")
    classes = explored(without_chance(model), title, channels, image_size, pixel_classes)
    if classes:
        return DenseBackbone(model, title, channels=channels, classes=classes, **of)
    size = {"channels": channels, "image_size": image_size}
    return ForeignBackbone(model, title, features=features, **size, **of)
