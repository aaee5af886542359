"""The user's own code, named in an option as MODULE:CALLABLE; run only because it was named."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from atd.errors import UserError, first_line

__all__ = ["call_own_code", "find_callable"]


def find_callable(words: str, key: str) -> Callable[..., Any]:
    """Imports a callable by name, from the working directory too.

    Args:
        words: `MODULE:CALLABLE`, e.g. `my_package.networks:make`.
        key: The option that names it, for messages.

    Returns:
        The callable.

    Raises:
        UserError: There is no such module or callable, or importing it fails.
    """
    module_name, _, path = words.partition(":")
    names = path.split(".")
    if not all(name.isidentifier() for name in (*module_name.split("."), *names)):
        raise UserError(
            f"{key}={words[:120]}: write import:MODULE:CALLABLE, e.g. import:my_net:make"
        )
    here = os.getcwd()
    if here not in sys.path:
        # Last, so that a file here never stands in for an installed library.
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(f"{key}: {module_name} {_raised(error)}") from None
        raise UserError(
            f"{key}: there is no module {error.name}, neither installed nor in {here}"
        ) from None
    except Exception as error:  # whatever somebody else's module raises
        raise UserError(f"{key}: {module_name} {_raised(error)}") from None
    for name in names:
        if not hasattr(found, name):
            nearest = difflib.get_close_matches(name, dir(found), n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise UserError(f"{key}: {module_name} has no {path}{hint}")
        found = getattr(found, name)
    if not callable(found):
        raise UserError(f"{key}: {path} in {module_name} is a {type(found).__name__}, not callable")
    result: Callable[..., Any] = found
    return result


def call_own_code(words: str, key: str) -> Any:
    """Calls what `find_callable` finds, without arguments.

    Args:
        words: `MODULE:CALLABLE`.
        key: The option that names it, for messages.

    Returns:
        What the callable returns.

    Raises:
        UserError: As `find_callable`, or the call fails.
    """
    function = find_callable(words, key)
    try:
        return function()
    except UserError:
        raise
    except Exception as error:  # whatever somebody else's code raises
        raise UserError(f"{key}: {words} {_raised(error)}") from None


def _raised(error: Exception) -> str:
    """What was raised, and on which line of whose file."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"raised {type(error).__name__}: {first_line(error)}{where}"
