"""Points spread evenly in a volume and yet at random: blue noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["blue_noise", "radius_for"]

_CANDIDATES = 30
_DRAWN = 128  # so many that 30 of them lie in the shell, as a rule
_DENSITY = 0.52  # points in a cube of side `radius`, measured


def blue_noise(shape: tuple[int, ...], radius: float, seed: int) -> NDArray[np.int64]:
    """Bridson's Poisson disc sampling of the whole-numbered points of a box.

    Candidates are drawn around a point that is there, at one to two radii from it and inside the
    box; the first that is nowhere nearer than the radius to another point is kept. Candidates
    are whole numbers before they are compared, so that the distance holds for what is returned
    (Bridson, 2007, Fast Poisson disk sampling in arbitrary dimensions).

    Args:
        shape: Sides of the box.
        radius: Smallest Euclidean distance between two points.
        seed: The same seed gives the same points.

    Returns:
        Points (N, dimensions), sorted; hardly any further point would fit between them.
    """
    rng = np.random.default_rng(seed)
    sides = np.array(shape)
    points = rng.integers(0, sides)[None]
    active = [0]
    while active:
        chosen = int(rng.integers(len(active)))
        found = _candidates(points[active[chosen]], sides, radius, rng)
        apart = ((found[:, None] - points[None]) ** 2).sum(2).min(1)
        fitting = np.flatnonzero(apart >= radius**2)
        if len(fitting):
            active.append(len(points))
            points = np.concatenate([points, found[fitting[:1]]])
        else:
            active[chosen] = active[-1]
            active.pop()
    ordered: NDArray[np.int64] = points[np.lexsort(points.T[::-1])]
    return ordered


def _candidates(
    centre: NDArray[np.int64], sides: NDArray[np.int64], radius: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Up to 30 points of the box in the shell from one to two radii around a point."""
    reach = math.ceil(2 * radius)
    low, high = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, sides)
    drawn = rng.integers(low, high, size=(_DRAWN, len(sides)))
    squares = ((drawn - centre) ** 2).sum(1)
    shell = (squares >= radius**2) & (squares <= 4 * radius**2)
    return drawn[shell][:_CANDIDATES]


def radius_for(shape: tuple[int, ...], points: int) -> float:
    """The radius at which `blue_noise` places about so many points in a box.

    Args:
        shape: Sides of the box.
        points: How many are wanted.

    Returns:
        The radius, at least 1: there, every whole-numbered point may be taken.
    """
    low, high = 1.0, float(2 * max(shape))
    for _ in range(50):
        middle = (low + high) / 2
        # Points at a face keep others away from half a ball only.
        cubes = math.prod((side - 1) / middle + 0.8 for side in shape)
        low, high = (middle, high) if _DENSITY * cubes > points else (low, middle)
    return low
