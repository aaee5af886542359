"""Square attack: random search that sees only the objective's values.

Example:
    A score without a gradient is raised all the same:

    >>> import torch
    >>> from atd.attacks import square
    >>> score = lambda images: images.detach().mean((1, 2, 3)).round(decimals=3)
    >>> draws, stripes = torch.rand(2, 200, 3), 2 * torch.rand(2, 1, 8) - 1
    >>> images = torch.full((2, 1, 8, 8), 0.5)
    >>> raised = square(score, images, epsilon=0.1, draws=draws, stripes=stripes)
    >>> bool((raised.values > score(images)).all())
    True
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from atd.attacks.ball import Ball, Norm
from atd.attacks.objective import Attacked, Objective
from atd.attacks.unfinished import Unfinished, only

__all__ = ["share_at", "square", "window_side"]

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10000 queries


def square(
    objective: Objective,
    images: Tensor,
    *,
    epsilon: float,
    draws: Tensor,
    stripes: Tensor,
    norm: Norm = "linf",
    p_init: float = 0.8,
    enough: float | Tensor | None = None,
) -> Attacked:
    """Maximises an objective per sample without its gradient (L-infinity).

    Square attack of Andriushchenko et al. (2020), arXiv:1912.00049, Algorithms 1 and 2. It
    starts from vertical stripes of size epsilon. Each query sets a square window to +epsilon or
    -epsilon per channel and keeps that where the value grows.

    Args:
        objective: Maps images (N, C, H, W) to values (N,).
        images: Images (N, C, H, W) in [0, 1].
        epsilon: Radius of the ball on the [0, 1] scale.
        draws: Uniform numbers (N, Q, 2 + C) in [0, 1), one row per query: vertical and
            horizontal position of the window, and the sign in each channel. A sample's result
            depends on its own draws and stripes only.
        stripes: Uniform numbers (N, C, W) in [-1, 1]; their signs are those of the stripes.
        norm: Only `linf`.
        p_init: Share of the image that the first windows cover.
        enough: Value past which a sample is finished, as for `atd.attacks.pgd`.

    Returns:
        Each sample's best image, float32, and its value; Q + 1 forward passes.

    Raises:
        ValueError: The norm is not `linf`.
    """
    if norm != "linf":
        raise ValueError(f"the Square attack is for norm 'linf' only, not {norm!r}")
    images = images.detach().float()
    ball = Ball(images, epsilon)
    lowest, highest = ball.project(images - epsilon), ball.project(images + epsilon)
    striped = torch.where(stripes.unsqueeze(2) > 0, highest, lowest)
    best = Attacked.of(objective, striped)
    height, width = images.shape[-2:]
    queries = draws.shape[1]
    unfinished = Unfinished(enough)
    for query in range(queries):
        draw = draws[:, query]
        side = window_side(share_at(query, queries, p_init), height, width)
        window = _windows(draw[:, 0], draw[:, 1], side, height, width)
        up = draw[:, 2:, None, None] >= 0.5
        moved = torch.where(window, torch.where(up, highest, lowest), best.images)
        best = best.better(Attacked.of(objective, moved), unfinished.enough)
        if (rows := unfinished.left(query + 1, best)) is not None:
            objective, draws, lowest, highest, best = only(
                rows, objective, draws, lowest, highest, best
            )
            if not len(rows):
                break
    return unfinished.outcome(best)


def share_at(query: int, queries: int, p_init: float) -> float:
    """Share of the image that a window covers.

    The published schedule halves it after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 of
    10000 queries; other numbers of queries are rescaled to that.

    Args:
        query: Number of the query, from 0.
        queries: Queries of the whole attack.
        p_init: Share at the start.
    """
    position = query * 10000 // queries
    return p_init / 2 ** sum(position > halving for halving in _HALVINGS)


def window_side(share: float, height: int, width: int) -> int:
    """Side in pixels of the square that covers a share of an image, at least one pixel."""
    side = max(round(math.sqrt(share * height * width)), 1)
    return min(side, height, width)


def _windows(rows: Tensor, columns: Tensor, side: int, height: int, width: int) -> Tensor:
    """Masks (N, 1, H, W) of squares whose place is drawn by numbers (N,) in [0, 1)."""
    inside = []
    for draw, length in ((rows, height), (columns, width)):
        first = (draw * (length - side + 1)).long().unsqueeze(1)
        pixel = torch.arange(length, device=draw.device)
        inside.append((pixel >= first) & (pixel < first + side))
    return inside[0][:, None, :, None] & inside[1][:, None, None, :]
