"""Command lines whose mistakes are told in one line, like all others."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, NoReturn

from atd.errors import UserError

__all__ = ["Parser"]

_NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.I)


class Parser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` without the usage lines before an error."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As there, but `--threshold -0.5` has a value where there is an option `-0` too."""
        words: list[str] = []
        for word in sys.argv[1:] if args is None else args:
            named = bool(words) and words[-1].startswith("--") and "=" not in words[-1]
            if named and word != "-0" and _NEGATIVE.fullmatch(word):
                words[-1] += f"={word}"
            else:
                words.append(word)
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Ends the process with exit code 2 and one line on standard error."""
        line = UserError(f"{message}; {self.prog} --help tells what can be given")
        self.exit(2, f"error: {line}\n")
