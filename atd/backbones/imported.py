"""The user's own classifier as a backbone (`backbone.architecture=import:MODULE:CALLABLE`)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from torch import nn

from atd.backbones.base import Features
from atd.backbones.foreign import ForeignBackbone
from atd.errors import UserError
from atd.own_code import call_own_code

__all__ = ["ImportedBackbone", "allow_import"]

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


class ImportedBackbone(ForeignBackbone):
    """What the user's callable returns: a classifier module for images in [0, 1].

    Its number of classes is that of its logits. Nothing is normalised before it unless
    `backbone.mean` and `backbone.std` say so.

    Args:
        words: `MODULE:CALLABLE`; the callable takes no arguments.
        channels: Channels of an image.
        image_size: Height and width of an image.
        features: `last` or `multi`.
        mean: Per-channel mean on [0, 1]; None means 0.
        std: Per-channel standard deviation on [0, 1]; None means 1.

    Raises:
        UserError: Nobody allowed it, it fails, or it returns something else.
    """

    def __init__(
        self,
        words: str,
        *,
        channels: int,
        image_size: int,
        features: Features,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        named = os.environ.get(_VARIABLE, "").split(",")
        if words not in _allowed and words not in named:
            raise UserError(
                f"the detector's backbone is code of its maker's, import:{words[:120]}, which runs "
                f"only if you name it too: set {_VARIABLE}=MODULE:CALLABLE in the environment, or "
                "call atd.backbones.allow_import in Python"
            )
        key = "backbone.architecture"
        model = call_own_code(words, key)
        if not isinstance(model, nn.Module):
            kind = type(model).__name__
            raise UserError(f"{key}: import:{words} returned a {kind}, not a torch.nn.Module")
        super().__init__(
            model,
            f"import:{words}",
            channels=channels,
            image_size=image_size,
            features=features,
            mean=mean,
            std=std,
        )
