"""Command lines whose mistakes are told in one line, like all others."""

from __future__ import annotations

import argparse
from typing import NoReturn

from atd.errors import UserError

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` without the usage lines before an error."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with exit code 2 and one line on standard error."""
        line = UserError(f"{message}; {self.prog} --help tells what can be given")
        self.exit(2, f"error: {line}\n")
