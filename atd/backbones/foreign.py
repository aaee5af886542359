"""Any classifier module as a backbone: what lies inside is found by watching one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from atd.backbones.activations import record
from atd.backbones.base import Backbone, Features, pool_mean
from atd.backbones.stages import as_maps, find_head, find_stages
from atd.errors import UserError, first_line

__all__ = ["IMAGENET", "ForeignBackbone", "explored", "without_chance"]

Seen = TypeVar("Seen")

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation that nearly all networks for ImageNet are trained with."""


class ForeignBackbone(Backbone):
    """A classifier that was not made for this, without dropout and stochastic depth.

    Its embedding is the input of the layer that gives the logits, averaged over space where it
    has any; its stages are found by `atd.backbones.stages`.

    Args:
        model: Maps normalised images to class logits (N, K).
        title: What messages call it, e.g. `torchvision:resnet18`.
        channels: Channels of an image.
        image_size: Height and width of an image.
        features: `last` or `multi`.
        of: `mean` and `std`, as of every `Backbone`.

    Raises:
        UserError: The model fails on such images, gives something else than logits, or has no
            layer that they come from.
    """

    def __init__(
        self,
        model: nn.Module,
        title: str,
        *,
        channels: int,
        image_size: int,
        features: Features,
        **of: Any,
    ) -> None:
        found = explored(without_chance(model), title, channels, image_size, _watched)
        if features == "multi" and not found.stages:
            raise UserError(f"{title} gives no inner maps; set backbone.features=last")
        super().__init__(
            found.stage_channels or [found.embedding_dim],
            channels=channels,
            classes=found.classes,
            features=features,
            **of,
        )
        self.embedding_dim = found.embedding_dim
        if features == "last":
            self.feature_dim = found.embedding_dim
        self.title = title
        self.model = model
        self.head_name = f"model.{found.head}"
        self.stage_layers = tuple(f"model.{label}" for label in found.stages)
        self._head, self._stages, self._direct = found.head, found.stages, found.direct

    def stages(self, images: Tensor) -> list[Tensor]:
        """Feature maps (N, C_i, H_i, W_i) of up to four depths, shallowest first."""
        return _maps(self.model, self.normalise(images), self._stages)

    def embed(self, images: Tensor) -> Tensor:
        """What the head is given, averaged over space (N, embedding_dim)."""
        (given,) = record(self.model, self.normalise(images), [self._head], side="input").values()
        return _pooled(given)

    def classify(self, embedding: Tensor) -> Tensor:
        """Embedding (N, embedding_dim) -> class logits (N, classes).

        Raises:
            UserError: Something lies between the head and the logits.
        """
        if not self._direct:
            raise UserError(f"{self.title}: its logits are not a function of its embedding")
        logits: Tensor = self.model.get_submodule(self._head)(embedding)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (N, classes)."""
        logits: Tensor = self.model(self.normalise(images))
        return logits


@dataclass(frozen=True, slots=True)
class _Found:
    head: str
    stages: list[str]
    stage_channels: list[int]
    embedding_dim: int
    classes: int
    direct: bool


def explored(
    model: nn.Module,
    title: str,
    channels: int,
    image_size: int,
    look: Callable[[nn.Module, Tensor, str], Seen],
) -> Seen:
    """Looks into a model that it passes two images through, and leaves it as it was.

    Args:
        model: The model.
        title: What messages call it.
        channels: Channels of an image.
        image_size: Height and width of an image.
        look: What is wanted, from the model, the images and the title.

    Raises:
        UserError: The model fails on such images, or `look` refuses it.
    """
    shape = (2, channels, image_size, image_size)
    some = next(iter(model.parameters()), torch.zeros(()))
    # Drawing random images here would change what a seed gives afterwards.
    images = torch.linspace(0, 1, shape[0] * channels * image_size**2, device=some.device)
    images = images.view(shape).to(some.dtype)
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return look(model, images, title)
    except UserError:
        raise
    except Exception as error:  # whatever somebody else's network raises
        size = "x".join(map(str, shape[1:]))
        raise UserError(f"{title} does not work on {size} images: {first_line(error)}") from None
    finally:
        for part, training in modes:
            part.training = training


def _watched(model: nn.Module, images: Tensor, title: str) -> _Found:
    logits = model(images)
    if not isinstance(logits, Tensor):
        raise UserError(f"{title} returns a {type(logits).__name__}, not class logits (N, K)")
    if logits.ndim != 2 or len(logits) != len(images) or not logits.is_floating_point():
        shape = tuple(logits.shape)
        raise UserError(
            f"{title} returns {logits.dtype} of shape {shape} for {len(images)} images, not class "
            "logits (N, K)"
        )
    classes = logits.shape[1]
    head = find_head(model, images, classes)
    if head is None:
        raise UserError(
            f"{title}: its {classes} logits come from no nn.Linear or nn.Conv2d, so that its "
            "embedding cannot be found"
        )
    embedding = _pooled(record(model, images, [head], side="input").values()[0])
    stages = find_stages(model, images, head)
    layer = model.get_submodule(head.partition("#")[0])
    direct = isinstance(layer, nn.Linear) and (
        logits.is_meta or torch.allclose(layer(embedding), logits, rtol=1e-3, atol=1e-4)
    )
    return _Found(
        head=head,
        stages=stages,
        stage_channels=[maps.shape[1] for maps in _maps(model, images, stages)],
        embedding_dim=embedding.shape[1],
        classes=classes,
        direct=direct,
    )


def _maps(model: nn.Module, images: Tensor, labels: list[str]) -> list[Tensor]:
    found = dict(record(model, images, labels).activations)
    maps = [as_maps(found[label]) for label in labels]
    return [one for one in maps if one is not None]


def _pooled(given: Tensor) -> Tensor:
    if given.ndim == 4:
        return pool_mean(given)
    return given if given.ndim == 2 else given.flatten(1, -2).mean(1)


def without_chance(model: Any) -> Any:
    """Turns off what draws random numbers inside a network.

    Such draws would differ with the number of processes, and after a resume.
    """
    for part in model.modules():
        named = type(part).__name__
        if isinstance(part, nn.modules.dropout._DropoutNd) or named == "StochasticDepth":
            part.p = 0.0
        if hasattr(part, "drop_prob"):
            part.drop_prob = 0.0
        if isinstance(part, nn.MultiheadAttention):
            part.dropout = 0.0
    return model
