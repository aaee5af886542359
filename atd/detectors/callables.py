"""Callables that are no modules, made to move between devices and types with what they hold."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

__all__ = ["CallableModule"]


class CallableModule(nn.Module):
    """A function, a method or a callable object as a module.

    Modules and tensors among an object's attributes, in lists and dicts too, are found; so are
    modules that a function sees by name, in its closure or among its globals.

    Args:
        function: Anything that can be called with images.
    """

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        # A plain name such as `items` would be refused.
        self.seen = nn.ModuleDict({f"{name}:": module for name, module in _seen(function).items()})
        self.held = nn.ModuleList(dict.fromkeys(_modules(_attributes(function))))
        # Whether it trains is its modules' affair.
        self.training = self.seen.training = self.held.training = False

    def forward(self, images: Tensor) -> Any:
        """What the function returns."""
        function = self.function
        if not isinstance(function, types.FunctionType) or not self.seen:
            return function(images)
        # A copy of this module has copies of what its function sees.
        names = {key.removesuffix(":"): self.seen[key] for key in self.seen}
        cells = function.__closure__ or ()
        closure = tuple(
            types.CellType(names[name]) if name in names else cell
            for name, cell in zip(function.__code__.co_freevars, cells, strict=True)
        )
        own = types.FunctionType(
            function.__code__,
            {**function.__globals__, **names},
            function.__name__,
            function.__defaults__,
            closure,
        )
        own.__kwdefaults__ = function.__kwdefaults__
        return own(images)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CallableModule:
        super()._apply(fn, recurse)
        held = _attributes(self.function)
        held.update({key: _moved(value, fn) for key, value in held.items()})
        return self


def _seen(function: object) -> dict[str, nn.Module]:
    if not isinstance(function, types.FunctionType):
        return {}
    code = function.__code__
    found = {name: function.__globals__.get(name) for name in code.co_names}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        found[name] = cell.cell_contents
    return {name: value for name, value in found.items() if isinstance(value, nn.Module)}


def _attributes(value: Any) -> dict[str, Any]:
    """What an object holds, or the object of a method; nothing for a function."""
    if isinstance(value, types.MethodType):
        value = value.__self__
    if isinstance(value, nn.Module):
        return {"": value}
    return {} if isinstance(value, types.FunctionType) else getattr(value, "__dict__", {})


def _modules(value: Any) -> list[nn.Module]:
    for module in (value, getattr(value, "__self__", None)):
        if isinstance(module, nn.Module):
            return [module]
    held = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list | tuple):
        return []
    return [module for item in held for module in _modules(item)]


def _moved(value: Any, move: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return move(value)
    if isinstance(value, list | tuple):
        return type(value)(_moved(item, move) for item in value)
    if isinstance(value, dict):
        return {key: _moved(item, move) for key, item in value.items()}
    return value
