"""Networks that give classes of every pixel, such as those of semantic segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from torch import Tensor, nn

from atd.backbones.base import Backbone
from atd.errors import UserError

__all__ = ["DenseBackbone", "pixel_classes"]


def pixel_classes(model: nn.Module, images: Tensor, title: str) -> int:
    """How many classes a network gives for each pixel; 0 where it gives something else."""
    output = model(images)
    maps = isinstance(output, Tensor) and output.ndim == 4 and output.is_floating_point()
    return output.shape[1] if maps and len(output) == len(images) else 0


class DenseBackbone(Backbone):
    """A network of the user's own that has no embedding of an image and no logits of it.

    Detectors that read the activations of any module can be fitted to it and saved with it.

    Args:
        model: Maps normalised images to class logits of pixels (N, K, H, W).
        title: What messages call it.
        channels: Channels of an image.
        classes: K.
        mean: Per-channel mean on [0, 1]; None means 0.
        std: Per-channel standard deviation on [0, 1]; None means 1.
    """

    per_pixel = True

    def __init__(
        self,
        model: nn.Module,
        title: str,
        *,
        channels: int,
        classes: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        of_images = {"channels": channels, "classes": classes, "mean": mean, "std": std}
        super().__init__([classes], features="last", **of_images)  # type: ignore[arg-type]
        self.title, self.model, self.head_name = title, model, "model"

    def forward(self, images: Tensor) -> Tensor:
        """Class logits of every pixel (N, K, H, W)."""
        logits: Tensor = self.model(self.normalise(images))
        return logits

    def embed(self, images: Tensor) -> NoReturn:
        """Refuses: there is no embedding of an image."""
        raise UserError(f"{self.title} gives classes of every pixel, and no embedding of an image")
