"""The state in which a model is attacked: evaluation mode, no parameter gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["frozen"]


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Puts modules in evaluation mode without parameter gradients, and back afterwards.

    An attack needs the gradient with respect to its input only. Computing the parameters'
    gradients as well costs time in every step and, with `.backward()`, leaves them behind.

    Args:
        modules: The modules; each submodule's training flag and each parameter's
            `requires_grad` are restored on exit, also after an exception.
    """
    flags = [(part, part.training) for module in modules for part in module.modules()]
    parameters = [(p, p.requires_grad) for module in modules for p in module.parameters()]
    try:
        for module in modules:
            module.eval()
        for parameter, _ in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for part, training in flags:
            part.training = training
        for parameter, required in parameters:
            parameter.requires_grad_(required)
