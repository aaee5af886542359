"""One progress bar for a whole evaluation, in passes through the detector.

It moves with every step of an attack, so that it tells within seconds how long the whole takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]

_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {elapsed}"
_REMAINING = " (about {remaining} left)"
_TELLING = 0.01
"""Share of the work from which on its pace says something of the rest."""

_SMOOTHING = 0.03
"""Weight of the newest half second: batches that end early come in jumps."""


@contextmanager
def progress_bar(title: str, total: int, *, show: bool) -> Iterator[Callable[[int], None]]:
    """Shows how much of the work is done and how much time is left.

    Args:
        title: What is going on.
        total: Amount of work.
        show: False shows nothing.

    Yields:
        A function to call with the work done since the last call.
    """
    from tqdm import tqdm

    # Redrawn at most twice a second, also where single passes differ a thousandfold in time.
    with tqdm(
        total=total,
        desc=title,
        disable=not show,
        leave=False,
        bar_format=_FORMAT,
        smoothing=_SMOOTHING,
        mininterval=0.5,
        miniters=1,
    ) as bar:

        def advance(amount: int) -> None:
            if bar.n >= _TELLING * total:
                bar.bar_format = _FORMAT + _REMAINING
            bar.update(min(amount, total - bar.n))

        yield advance
