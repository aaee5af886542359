"""A frozen backbone made cheaper to pass through, for attacks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from atd.backbones.base import Backbone
from atd.backbones.residual import ResidualBackbone, ResidualBlock
from atd.compiled import compiled_function

__all__ = ["FrozenPass"]

Function = Callable[[Tensor], Tensor]


class FrozenPass:
    """Passes through a backbone in evaluation mode, differentiable in the images only.

    Batch normalisation that follows a convolution is folded into it, which leaves the function
    as it is but for rounding. In bfloat16 the convolutions' weights are converted once, not in
    every pass; what comes out is float32.

    Args:
        backbone: The backbone; what is done to it later shows after `refresh`.
        bfloat16: Convolve in bfloat16.
        compiled: Compile the passes with torch.compile; the first ones then take a minute.
        output: The method that `classify` calls.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        bfloat16: bool = False,
        compiled: bool = False,
        output: str = "forward",
    ) -> None:
        self._source = backbone
        # Only for residual backbones is it known where a convolution's output goes.
        self._converted = isinstance(backbone, ResidualBackbone)
        self._autocast = bfloat16 and not self._converted
        self.copy = copy.deepcopy(backbone).eval().requires_grad_(False)
        if self._converted:
            _prepare(self.copy, torch.bfloat16 if bfloat16 else None)
        self.refresh()
        self.features: Function = self._wrapped(self.copy.features, compiled)
        self.classify: Function = self._wrapped(getattr(self.copy, output), compiled)

    @torch.no_grad()
    def refresh(self) -> None:
        """Takes over the backbone's present weights and statistics."""
        if not self._converted:
            self.copy.load_state_dict(self._source.state_dict())
            return
        folded = dict(_folded(self._source))
        theirs = dict(self._source.named_modules())
        for name, mine in self.copy.named_modules():
            if name in folded:
                _fill(mine, *_fused(theirs[name], theirs[folded[name]]))
            else:
                for key, value in [*mine.named_parameters(recurse=False), *_buffers(mine)]:
                    value.copy_(getattr(theirs[name], key))

    def _wrapped(self, function: Function, compiled: bool) -> Function:
        if compiled:
            # CUDA graphs take away the launches that a small network on a fast device waits for.
            function = compiled_function(function, cuda_graphs=True)
        if not self._autocast:
            return function

        def under_autocast(images: Tensor) -> Tensor:
            with torch.autocast(images.device.type, torch.bfloat16):
                return function(images)

        return under_autocast


def _folded(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of convolutions, each with that of the batch normalisation that it feeds alone."""
    for name, module in model.named_modules():
        if isinstance(module, ResidualBlock):
            yield f"{name}.conv1", f"{name}.norm2"
        elif isinstance(module, nn.Sequential):
            for at, (one, other) in enumerate(zip(module, list(module)[1:], strict=False)):
                if isinstance(one, nn.Conv2d) and isinstance(other, nn.BatchNorm2d):
                    yield f"{name}.{at}", f"{name}.{at + 1}"


def _prepare(model: nn.Module, dtype: torch.dtype | None) -> None:
    """Removes the folded normalisations and converts the convolutions."""
    for convolution, norm in list(_folded(model)):
        module = model.get_submodule(convolution)
        assert isinstance(module, nn.Conv2d)
        module.bias = nn.Parameter(module.weight.new_zeros(module.out_channels), False)
        model.set_submodule(norm, nn.Identity())
    if dtype is None:
        return
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(dtype)
    assert isinstance(model, ResidualBackbone)
    model.stem.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(dtype),))


def _fused(convolution: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )


def _fill(convolution: nn.Module, weight: Tensor, bias: Tensor) -> None:
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None
    convolution.weight.copy_(weight)
    convolution.bias.copy_(bias)


def _buffers(module: nn.Module) -> list[tuple[str, Tensor]]:
    return list(module.named_buffers(recurse=False))
