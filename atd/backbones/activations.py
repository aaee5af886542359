"""Reads, and where wanted replaces, what the layers inside any torch module give out.

Hooks are set when a call begins and removed when it ends. A module may be shared: the hooks of a
call answer to its own thread only, so that any number of threads can record at once.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from atd.errors import UserError

__all__ = ["Recording", "Select", "is_leaf", "is_normalisation", "record", "require_layers"]

Select = Callable[[str, nn.Module], bool] | Collection[str]
"""Which layers: a rule for name and module such as `is_leaf`, or labels (see `Recording`)."""

Side = Literal["output", "input", "both"]
Replacement = Tensor | Callable[[Tensor], Tensor]

_NORMALISATIONS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
)

# torch counts handles of hooks without a lock: two threads could be given the same one.
_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class Recording:
    """What a pass gave, and what lay inside.

    Attributes:
        output: What the module returned.
        activations: Labels and values in the order in which they were computed. A label is the
            layer's name; a layer that was called again adds `#2`, `#3`, ... to it.
        given: With `side="both"`, what each of these layers was given where that is one tensor.
    """

    output: Any
    activations: list[tuple[str, Tensor]]
    given: list[Tensor | None]

    def values(self) -> list[Tensor]:
        """The values without their labels."""
        return [value for _, value in self.activations]


def is_leaf(name: str, module: nn.Module) -> bool:
    """Selects every layer that has no layers inside."""
    return next(module.children(), None) is None


def is_normalisation(name: str, module: nn.Module) -> bool:
    """Selects batch, instance, group, layer, RMS and local response normalisation.

    A library's own class counts if its name says so, e.g. timm's `FrozenBatchNormAct2d`.
    """
    named = type(module).__name__.lower()
    return isinstance(module, _NORMALISATIONS) or (
        is_leaf(name, module) and any(word in named for word in ("batchnorm", "layernorm"))
    )


def record(
    module: nn.Module,
    images: Tensor,
    select: Select,
    *,
    call: Callable[[Tensor], Any] | None = None,
    side: Side = "output",
    replace: Mapping[str, Replacement] | None = None,
    gradients: bool = False,
) -> Recording:
    """Passes images through a module and keeps the selected layers' values.

    The network goes on with a copy of every value kept, so that a layer which works in place
    leaves it as it was, and a gradient with respect to it is that of its own layer's output.
    Layers that give out no tensor, or are not called, are passed over.

    Args:
        module: Any module, in any mode; it is as before afterwards.
        images: What it takes.
        select: The layers.
        call: What to call in place of the module, e.g. `backbone.embed`.
        side: Keep what layers give out, what they are given (their first argument), or `both`:
            what they give out, with what they are given beside it.
        replace: By label, what stands in for a layer's value: a tensor of the same shape, or a
            function of the value. It is kept in place of the value.
        gradients: The values kept require gradients, also where neither parameters nor images
            do, and in spite of a surrounding `torch.no_grad` or `inference_mode`; call
            `torch.autograd.grad` outside of these.

    Returns:
        The output and the values.

    Raises:
        UserError: `replace` names a label that did not come up, or changes a shape.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
        >>> recording = record(network, torch.ones(1, 2), is_leaf)
        >>> [(label, tuple(value.shape)) for label, value in recording.activations]
        [('0', (1, 3)), ('1', (1, 3))]
    """
    tape = _Tape(select, dict(replace or {}), gradients)
    # What torch.compile has traced knows nothing of hooks that come later. Its own import takes
    # seconds, so that it is asked to look away only where somebody has imported it.
    passes = torch.compiler.disable(_pass) if "torch._dynamo" in sys.modules else _pass
    output = passes(call or module, module, images, tape, side)
    unused = tape.replace.keys() - tape.calls.keys()
    if unused:
        raise UserError(f"no layer {', '.join(sorted(unused))} was called in this network")
    return Recording(output, tape.kept, tape.given)


def _pass(
    call: Callable[[Tensor], Any],
    module: nn.Module,
    images: Tensor,
    tape: _Tape,
    side: Side,
) -> Any:
    with _gradients_on(tape.gradients), _hooks(module, tape, side):
        if tape.gradients and images.is_inference():
            images = images.clone()
        return call(images)


def require_layers(recording: Recording, what: str) -> list[tuple[str, Tensor]]:
    """The activations of a recording that must not be empty.

    Args:
        recording: What was recorded.
        what: The layers, for the message, e.g. `normalisation layers`.

    Raises:
        UserError: There are none.
    """
    if not recording.activations:
        raise UserError(f"the network has no {what}; choose another detector.kind or backbone")
    return recording.activations


class _Tape:
    """What one call has seen so far."""

    def __init__(self, select: Select, replace: dict[str, Replacement], gradients: bool) -> None:
        self.select, self.replace, self.gradients = select, replace, gradients
        self.thread = threading.get_ident()
        self.calls: dict[str, None] = {}
        self.kept: list[tuple[str, Tensor]] = []
        self.given: list[Tensor | None] = []
        self._counts: Counter[str] = Counter()

    def concerns(self, name: str, module: nn.Module) -> bool:
        """Whether a layer needs a hook."""
        if any(label.partition("#")[0] == name for label in self.replace):
            return True
        if callable(self.select):
            return self.select(name, module)
        return any(label.partition("#")[0] == name for label in self.select)

    def visit(self, name: str, module: nn.Module, value: Any) -> Tensor | None:
        """Takes note of a layer's value; what the network goes on with, None for the value."""
        if threading.get_ident() != self.thread or not isinstance(value, Tensor):
            return None
        self._counts[name] += 1
        count = self._counts[name]
        label = name if count == 1 else f"{name}#{count}"
        self.calls[label] = None
        replaced = label in self.replace
        if replaced:
            value = _replaced(label, value, self.replace[label])
        chosen = self.select
        if chosen(name, module) if callable(chosen) else label in chosen:
            if self.gradients and not value.requires_grad and value.is_floating_point():
                value = value.detach().requires_grad_()
            self.kept.append((label, value))
            return value.clone()
        return value.clone() if replaced else None


def _replaced(label: str, value: Tensor, by: Replacement) -> Tensor:
    new = by if isinstance(by, Tensor) else by(value)
    if new.shape != value.shape:
        raise UserError(
            f"layer {label} gives {tuple(value.shape)}, which cannot be replaced by "
            f"{tuple(new.shape)}"
        )
    return new


@contextlib.contextmanager
def _gradients_on(wanted: bool) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if wanted and torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if wanted:
            stack.enter_context(torch.enable_grad())
        yield


@contextlib.contextmanager
def _hooks(module: nn.Module, tape: _Tape, side: Side) -> Iterator[None]:
    handles = []
    try:
        with _LOCK:
            for name, layer in module.named_modules():
                if tape.concerns(name, layer):
                    handles.append(_hook(layer, name, tape, side))
        yield
    finally:
        with _LOCK:
            for handle in handles:
                handle.remove()


def _hook(
    layer: nn.Module, name: str, tape: _Tape, side: Side
) -> torch.utils.hooks.RemovableHandle:
    if side == "both":

        def after(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor | None:
            kept = len(tape.kept)
            value = tape.visit(name, layer, output)
            if len(tape.kept) > kept:
                only = len(inputs) == 1 and isinstance(inputs[0], Tensor)
                tape.given.append(inputs[0] if only else None)
            return value

        return layer.register_forward_hook(after)
    if side == "output":
        return layer.register_forward_hook(lambda _, __, output: tape.visit(name, layer, output))

    def before(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        value = tape.visit(name, layer, inputs[0]) if inputs else None
        return None if value is None else (value, *inputs[1:])

    return layer.register_forward_pre_hook(before)
