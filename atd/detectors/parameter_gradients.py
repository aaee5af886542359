"""How far each parameter tensor would have to move for an image: per-sample gradient norms."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

__all__ = ["squared_norms"]

_MEMORY = 2**28
_PIXELS = 128 * 32 * 32


def squared_norms(network: nn.Module, images: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The squared L2 norm of a loss's gradient with respect to every parameter tensor.

    All samples are done at once, in chunks whose gradients take at most 256 MB beside the
    activations of 128 images of 32 px (one image where its gradients alone take more). Where the
    norms are themselves differentiated, the chunks' graphs add up.

    Args:
        network: A classifier; it is computed in evaluation mode and left as it is, also while
            other threads use it.
        images: Float images (N, C, H, W).
        loss: Maps the logits (K,) of an image to a number.

    Returns:
        (N, P), in the order of `network.named_parameters()`; differentiable with respect to the
        images, and to them alone.
    """
    if not len(images):
        return images.new_zeros(0, sum(1 for _ in network.parameters()))
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    buffers = {name: value.detach() for name, value in network.named_buffers()}
    skeleton = _skeleton(network)

    def of_logits(values: dict[str, Tensor], image: Tensor) -> Tensor:
        return loss(functional_call(skeleton, (values, buffers), (image[None],))[0])

    def norms(image: Tensor) -> Tensor:
        found = grad(of_logits)(parameters, image)
        return torch.stack([value.square().sum() for value in found.values()])

    size = sum(value.numel() * value.element_size() for value in parameters.values())
    chunk = min(_MEMORY // max(1, size), _PIXELS // images.shape[-2:].numel())
    found: Tensor = vmap(norms, chunk_size=max(1, chunk), randomness="same")(images)
    return found


def _skeleton(network: nn.Module) -> nn.Module:
    """A copy that shares all tensors: `functional_call` exchanges those of the module it calls."""
    shared = itertools.chain(network.parameters(), network.buffers())
    return copy.deepcopy(network, {id(tensor): tensor for tensor in shared}).eval()
