"""How far each parameter tensor would have to move for an image: per-sample gradient norms."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from atd.backbones.activations import record
from atd.detectors.inner_gradients import gradients_at

__all__ = ["squared_norms"]

Loss = Callable[[Tensor], Tensor]

_MEMORY = 2**28
_PIXELS = 128 * 32 * 32


def squared_norms(network: nn.Module, images: Tensor, loss: Loss) -> Tensor:
    """The squared L2 norm of a loss's gradient with respect to every parameter tensor.

    All samples are done at once, in chunks whose gradients take at most 256 MB beside the
    activations of 128 images of 32 px (one image where its gradients alone take more). Where the
    norms are themselves differentiated, the chunks' graphs add up.

    One pass back gives the gradient at what each layer gives out, which with what it was given
    makes the gradients of its parameters, sample by sample. Networks that use parameters in
    another way (twice, or outside of the layer's own call) are differentiated whole for each
    sample by `torch.func`, which takes several times as long.

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
    skeleton = _skeleton(network)
    names = [name for name, _ in network.named_parameters()]
    tensors = dict(skeleton.named_parameters())
    size = sum(tensors[name].numel() * tensors[name].element_size() for name in names)
    chunk = max(1, min(_MEMORY // max(1, size), _PIXELS // images.shape[-2:].numel()))

    def norms(part: Tensor) -> Tensor:
        found = _layer_by_layer(skeleton, part, loss)
        if found is None or found.keys() != set(names):
            found = _whole(skeleton, names, part, loss)
        return torch.stack([found[name] for name in names], dim=1)

    return torch.cat([norms(part) for part in images.split(chunk)])


def _skeleton(network: nn.Module) -> nn.Module:
    """A copy that shares all values: `functional_call` exchanges those of the module it calls."""
    shared = itertools.chain(network.parameters(), network.buffers())
    constants = {id(tensor): _constant(tensor) for tensor in shared}
    return copy.deepcopy(network, constants).eval()


def _constant(tensor: Tensor) -> Tensor:
    held = tensor.detach()
    return nn.Parameter(held, requires_grad=False) if isinstance(tensor, nn.Parameter) else held


def _whole(skeleton: nn.Module, names: list[str], images: Tensor, loss: Loss) -> dict[str, Tensor]:
    """Squared norms (N,) by parameter, of any network."""
    tensors: dict[str, Tensor] = dict(skeleton.named_parameters())
    parameters = {name: tensors[name] for name in names}

    def of_logits(values: dict[str, Tensor], image: Tensor) -> Tensor:
        return loss(functional_call(skeleton, values, (image[None],))[0])

    def norms(image: Tensor) -> dict[str, Tensor]:
        found = grad(of_logits)(parameters, image)
        return {name: value.square().sum() for name, value in found.items()}

    result: dict[str, Tensor] = vmap(norms, randomness="same")(images)
    return result


def _layer_by_layer(skeleton: nn.Module, images: Tensor, loss: Loss) -> dict[str, Tensor] | None:
    """The same of a network whose layers each use their own parameters, once; None of others."""
    owners = {name for name, part in skeleton.named_modules() if part._parameters}
    recording = record(skeleton, images, owners, side="both", gradients=True)
    labels = [label for label, _ in recording.activations]
    once = set(labels) == owners and len(set(labels)) == len(labels)
    if not once or any(given is None for given in recording.given):
        return None
    gradients = gradients_at(
        recording.values(),
        lambda: vmap(loss)(recording.output),
        differentiable=images.requires_grad and torch.is_grad_enabled(),
    )
    found: dict[str, Tensor] = {}
    for label, given, gradient in zip(labels, recording.given, gradients, strict=True):
        assert given is not None
        norms = _of_layer(skeleton.get_submodule(label), given, gradient)
        found |= {f"{label}.{name}".lstrip("."): value for name, value in norms.items()}
    return found


def _of_layer(layer: nn.Module, given: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """Squared norms (N,) of a layer's own parameters.

    Args:
        layer: The layer.
        given: What it was given (N, ...).
        gradient: The loss's gradient at what it gave out (N, ...).
    """
    parameters = dict(layer.named_parameters(recurse=False))
    product = _Product.within(layer, given, gradient)
    if product is not None:
        inputs, outputs = product.places(gradient)
        found = {"weight": _norm_of_product(inputs, outputs)}
        if "bias" in parameters:
            found["bias"] = outputs.sum(1).square().sum(1)
        return found

    def norms(row: Tensor, back: Tensor) -> dict[str, Tensor]:
        def of_values(values: dict[str, Tensor]) -> Tensor:
            output: Tensor = functional_call(layer, values, (row[None],))
            return output

        (found,) = vjp(of_values, parameters)[1](back[None])
        return {name: value.square().sum() for name, value in found.items()}

    result: dict[str, Tensor] = vmap(norms, randomness="same")(given, gradient)
    return result


def _norm_of_product(inputs: Tensor, outputs: Tensor) -> Tensor:
    """|outputs^T inputs|^2 (N,) of (N, P, I) and (N, P, O), from the smaller of two products."""
    places, wide, high = inputs.shape[1], inputs.shape[2], outputs.shape[2]
    if places * places < wide * high:
        return ((inputs @ inputs.mT) * (outputs @ outputs.mT)).sum((1, 2))
    return (outputs.mT @ inputs).square().sum((1, 2))


class _Product(TorchFunctionMode):
    """The one matrix product or convolution by a layer's weight that gives its output."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output
        self.calls: list[tuple[Any, dict[str, Any]]] = []

    @classmethod
    def within(cls, layer: nn.Module, given: Tensor, like: Tensor) -> _Product | None:
        """Runs a layer but for its product; None where it does anything else with a parameter.

        Args:
            layer: The layer.
            given: Its input.
            like: A tensor like its output.
        """
        if not isinstance(layer, nn.Linear | nn.Conv2d) or len(list(layer.parameters())) > 2:
            return None
        with cls(like.detach()) as found:
            output = layer(given)
        if output is not found.output or len(found.calls) != 1:
            return None
        function, call = found.calls[0]
        own = call["weight"] is layer.weight and call["bias"] is layer.bias
        whole = call["groups"] == 1 and not isinstance(call["padding"], str)
        return found if own and (function is functional.linear or whole) else None

    def __torch_function__(
        self, function: Any, types: Any, given: Any = (), named: Any = None
    ) -> Any:
        """Called in place of every function of torch."""
        if function not in (functional.linear, functional.conv2d):
            return function(*given, **(named or {}))
        self.calls.append((function, _bound(*given, **(named or {}))))
        return self.output

    def places(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """What the weight multiplies (N, places, in), and the gradient there (N, places, out)."""
        function, call = self.calls[0]
        if function is functional.conv2d:
            how = (call[name] for name in ("dilation", "padding", "stride"))
            columns = functional.unfold(call["input"], call["weight"].shape[2:], *how)
            return columns.mT, gradient.flatten(2).mT
        inputs = call["input"]
        if inputs.ndim == 2:
            return inputs[:, None], gradient[:, None]
        return inputs.flatten(1, -2), gradient.flatten(1, -2)


def _bound(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> dict[str, Any]:
    """The arguments of a convolution, or of a product with a matrix, by name."""
    return dict(locals())
