"""Any image model of the timm library as a backbone (`backbone.architecture=timm:NAME`)."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import torch
from torch import Tensor

from atd.backbones.base import Backbone, Features
from atd.backbones.foreign import without_chance
from atd.backbones.stages import find_stages
from atd.errors import UserError, first_line, nearest

__all__ = ["TimmBackbone"]


class TimmBackbone(Backbone):
    """A timm model with fresh weights, without dropout and stochastic depth.

    Args:
        name: timm's name of the model, e.g. `convnext_atto`; `vit_tiny_patch16_224:patch_size=4`
            cuts small images into smaller patches.
        channels: Channels of an image.
        classes: Number of ID classes.
        image_size: Height and width of an image; passed on to models built for one size.
        features: `last` is timm's own pooled output; `multi` needs `forward_intermediates`.
        of: `mean` and `std`, as of every `Backbone`.

    Raises:
        UserError: timm is missing, the name is unknown, or the model cannot do what is asked.
    """

    def __init__(
        self,
        name: str,
        *,
        channels: int,
        classes: int,
        image_size: int,
        features: Features,
        **of: Any,
    ) -> None:
        model = without_chance(_create(name, channels, classes, image_size))
        if features == "multi" and not hasattr(model, "forward_intermediates"):
            raise UserError(f"timm:{name} gives no inner maps; set backbone.features=last")
        example = torch.zeros(1, channels, image_size, image_size)
        stages, embedding, head, layers = _try_out(model, name, example, features)
        super().__init__(
            [maps.shape[1] for maps in stages] or [embedding.shape[1]],
            channels=channels,
            classes=classes,
            features=features,
            **of,
        )
        self.embedding_dim = embedding.shape[1]
        self.model = model
        self.title = f"timm:{name}"
        self.head_name = f"model.{head}"
        self.stage_layers = tuple(f"model.{label}" for label in layers)
        settings = model.default_cfg
        if channels == 3 and settings.get("mean") and settings.get("std"):
            self.customary = (settings["mean"], settings["std"])

    def stages(self, images: Tensor) -> list[Tensor]:
        """Feature maps (N, C_i, H_i, W_i) of the last four depths that timm names."""
        return _intermediates(self.model, self.normalise(images))

    def embed(self, images: Tensor) -> Tensor:
        """The pooled output as timm defines it (N, embedding_dim)."""
        return _embed(self.model, self.normalise(images))

    def classify(self, embedding: Tensor) -> Tensor:
        """Pooled output (N, embedding_dim) -> class logits (N, classes)."""
        logits: Tensor = self.model.get_classifier()(embedding)
        return logits


def _create(words: str, channels: int, classes: int, image_size: int) -> Any:
    try:
        import timm
    except ImportError:
        raise UserError(f"timm:{words} needs the timm library: pip install timm") from None
    name, _, patch = words.partition(":")
    if not timm.is_model(name):
        known = nearest(name, timm.list_models())
        raise UserError(f"backbone.architecture=timm:{name}: unknown; the nearest is {known}")
    create = partial(
        timm.create_model, name, pretrained=False, num_classes=classes, in_chans=channels
    )
    patches = _patches(words, patch)
    try:
        return create(img_size=image_size, **patches)
    except TypeError:  # models of any input size take no img_size
        if patches:
            raise UserError(f"timm:{words}: {name} takes no patch_size") from None
        return create()
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(f"timm:{words}: {first_line(error)}") from None


def _patches(words: str, patch: str) -> dict[str, Any]:
    """The option behind a model's name, which is the only one: a folder may be a stranger's."""
    if not patch:
        return {}
    given = re.fullmatch(r"patch_size=([1-9]\d{0,2})", patch)
    if given is None:
        raise UserError(f"timm:{words[:120]}: write timm:NAME or timm:NAME:patch_size=4")
    return {"patch_size": int(given[1])}


def _try_out(
    model: Any, name: str, example: Tensor, features: str
) -> tuple[list[Tensor], Tensor, str, list[str]]:
    """One forward pass: the only way to learn a timm model's dimensions and input sizes."""
    model.eval()
    try:
        with torch.no_grad():
            stages = _intermediates(model, example) if features == "multi" else []
            embedding = _embed(model, example)
            classifier = model.get_classifier()
            logits = classifier(embedding)
            faithful = logits.is_meta or torch.allclose(logits, model(example), atol=1e-4)
            head = next(at for at, part in model.named_modules() if part is classifier)
            layers = find_stages(model, example, head)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        size = "x".join(map(str, example.shape[1:]))
        raise UserError(
            f"timm:{name} does not work on {size} images: {first_line(error)}"
        ) from None
    finally:
        model.train()
    if not faithful:
        raise UserError(f"timm:{name}: its head is more than one layer; choose another model")
    return stages, embedding, head, layers


def _intermediates(model: Any, images: Tensor) -> list[Tensor]:
    maps: list[Tensor] = model.forward_intermediates(
        images, indices=4, norm=True, intermediates_only=True
    )
    return maps


def _embed(model: Any, images: Tensor) -> Tensor:
    embedding: Tensor = model.forward_head(model.forward_features(images), pre_logits=True)
    return embedding
