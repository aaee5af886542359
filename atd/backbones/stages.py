"""Finds, in any classifier, its head and the maps of its depths, by watching one pass."""

from __future__ import annotations

import math
from itertools import accumulate

from torch import Tensor, nn

from atd.backbones.activations import record

__all__ = ["as_maps", "find_head", "find_stages"]

_GLOBAL_POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_DEPTHS = 4


def as_maps(value: Tensor) -> Tensor | None:
    """A layer's output as square maps (N, C, S, S), None if it is something else.

    Channels may come last (Swin), and maps as tokens in rows, after a class token or not (ViT).
    """
    if value.ndim == 4:
        _, first, second, third = value.shape
        if second == third:
            return value
        return value.movedim(-1, 1) if first == second else None
    if value.ndim == 3:
        tokens = value.shape[1]
        for extra in (0, 1):
            side = math.isqrt(max(tokens - extra, 0))
            if side > 1 and side * side == tokens - extra:
                return value[:, extra:].unflatten(1, (side, side)).movedim(-1, 1)
    return None


def find_head(model: nn.Module, images: Tensor, classes: int) -> str | None:
    """The name of the layer that gives the class logits.

    Args:
        model: A classifier in evaluation mode.
        images: Images that it takes; meta tensors will do if it lies on the meta device.
        classes: How many logits it gives.

    Returns:
        The last linear layer or convolution with as many outputs; None if there is none.
    """
    layers = dict(model.named_modules())
    fitting = [
        name
        for name, layer in layers.items()
        if getattr(layer, "out_features" if isinstance(layer, nn.Linear) else "out_channels", 0)
        == classes
        and isinstance(layer, (nn.Linear, nn.Conv2d))
    ]
    called = [label for label, _ in record(model, images, fitting, side="input").activations]
    return called[-1] if called else None


def find_stages(model: nn.Module, images: Tensor, head: str) -> list[str]:
    """The layers whose outputs are a classifier's maps of up to four depths, shallowest first.

    Of every resolution it is the last output before the head that lies inside the fewest layers
    which go on to shrink it; of a network of one resolution (ViT) the outputs of four of its
    blocks. Side branches that shrink maps for a while, as squeeze-and-excitation does, and what
    comes after global pooling do not count.

    Args:
        model: A classifier in evaluation mode.
        images: Images that it takes.
        head: The layer that gives the logits.

    Returns:
        Labels for `record`; empty if there are no maps.
    """
    trunk, sizes = _trunk(model, images, head)
    best: dict[int, tuple[int, str]] = {}
    for label in trunk:
        size = sizes[label]
        containers = accumulate(label.split("."), lambda outer, name: f"{outer}.{name}")
        depth = sum(sizes.get(container, size) < size for container in containers)
        if size not in best or depth <= best[size][0]:
            best[size] = (depth, label)
    if len(best) == 1:
        return _blocks(trunk)
    return [label for _, label in best.values()][-_DEPTHS:]


def _trunk(model: nn.Module, images: Tensor, head: str) -> tuple[list[str], dict[str, int]]:
    """The layers on the way to global pooling, and the size of the maps of every layer."""
    layers = dict(model.named_modules())
    sizes: dict[str, int] = {}
    before: list[str] = []
    for label, value in record(model, images, lambda name, _: bool(name)).activations:
        maps = as_maps(value)
        if maps is not None and len(maps) == len(images):
            sizes[label] = maps.shape[2]
        before.append(label)
    before = [label for label in before[: before.index(head)] if label in sizes]
    # A trunk never grows again: what is smaller than something behind it is a side branch.
    largest = list(accumulate((sizes[label] for label in reversed(before)), max))[::-1]
    trunk = [label for label, most in zip(before, largest, strict=True) if sizes[label] >= most]
    pools = [
        at
        for at, label in enumerate(trunk)
        if sizes[label] == 1 and isinstance(layers[label.partition("#")[0]], _GLOBAL_POOLS)
    ]
    return (trunk[: pools[-1]] if pools else trunk), sizes


def _blocks(trunk: list[str]) -> list[str]:
    """Four evenly spaced children of the container that has the most, and then the end."""
    families: dict[str, list[str]] = {}
    for label in trunk[:-1]:
        families.setdefault(label.rpartition(".")[0], []).append(label)
    blocks = max(families.values(), key=len, default=[])
    if len(blocks) < _DEPTHS:
        return trunk[-1:]
    chosen = [blocks[len(blocks) * part // _DEPTHS - 1] for part in range(1, _DEPTHS)]
    return [*chosen, trunk[-1]]
