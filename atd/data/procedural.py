"""Pictures that no camera took: writing, overlapping leaves and coloured noise, at any size.

Procedural images teach a network much of what natural ones do (Baradad et al., "Learning to See
by Looking at Noise", NeurIPS 2021, arXiv:2106.05963); as outliers they are of many kinds at once.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["leaves", "signs", "spectra"]

Colour = tuple[int, int, int]

# No digits, which are common tests, and none of the letters and signs of `bundled:lowercase` and
# `bundled:symbols`; é and è are akin to one, but without them every image would be another.
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZbcfgijklopqrsuvwxyz&@?!§ÄÖÜßöüéèçøΔΣΩλπжшщыя"
_CANVAS = 96


def signs(count: int, rng: np.random.Generator) -> list[Image.Image]:
    """Writes one to four letters in any colour, font and place on plain or shaded grounds.

    Args:
        count: Number of images.
        rng: Source of randomness.

    Returns:
        `count` RGB images of 96 x 96, a quarter of them grey.
    """
    return [_sign(index % 4 == 0, rng) for index in range(count)]


def _sign(grey: bool, rng: np.random.Generator) -> Image.Image:
    ground, ink = _colour(rng, grey), _colour(rng, grey)
    while _apart(ground, ink) < 60:
        ink = _colour(rng, grey)
    canvas = _shaded(ground, _colour(rng, grey) if rng.random() < 0.5 else ground, rng)
    letters = "".join(rng.choice(list(_LETTERS), int(rng.integers(1, 5))))
    size = rng.uniform(0.5, 1.1) * _CANVAS * (1.0 if len(letters) == 1 else 1.5 / len(letters))
    layer = Image.new("L", (2 * _CANVAS, 2 * _CANVAS))
    font = _font(int(rng.integers(len(_font_files()))), max(12, 4 * round(size / 4)))
    ImageDraw.Draw(layer).text((_CANVAS, _CANVAS), letters, 255, font, anchor="mm")
    mask = _turned(layer, rng.uniform(-25, 25), *rng.uniform(-16, 16, 2))
    canvas.paste(Image.new("RGB", canvas.size, ink), mask=mask)
    return canvas


def _turned(layer: Image.Image, degrees: float, right: float, down: float) -> Image.Image:
    """The middle of a layer of twice the canvas' side, turned about its centre and shifted."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = right - _CANVAS / 2, down - _CANVAS / 2
    numbers = (cos, sin, _CANVAS + cos * x + sin * y, -sin, cos, _CANVAS - sin * x + cos * y)
    size, way = (_CANVAS, _CANVAS), Image.Transform.AFFINE
    return layer.transform(size, way, numbers, Image.Resampling.BILINEAR)


@functools.cache
def _font_files() -> list[Path]:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    # The display fonts lack most letters.
    return sorted(file for file in folder.glob("DejaVu*.ttf") if "Display" not in file.name)


@functools.cache
def _font(number: int, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_files()[number]), size)


def leaves(count: int, rng: np.random.Generator) -> list[Image.Image]:
    """Covers images with ellipses and polygons of power-law sizes ("dead leaves").

    Args:
        count: Number of images.
        rng: Source of randomness.

    Returns:
        `count` RGB images of 96 x 96, a quarter of them grey.
    """
    return [_leaf_image(index % 4 == 0, rng) for index in range(count)]


def _leaf_image(grey: bool, rng: np.random.Generator) -> Image.Image:
    palette = [_colour(rng, grey) for _ in range(int(rng.integers(2, 7)))]
    canvas = Image.new("RGB", (_CANVAS, _CANVAS), palette[0])
    draw = ImageDraw.Draw(canvas)
    number, smallest = int(rng.integers(5, 90)), rng.uniform(0.03, 0.15)
    corners = int(rng.integers(2, 7))  # 2 stands for ellipses
    # Density of radii proportional to r^-3, as of objects seen at any distance.
    radii = _CANVAS / np.sqrt(1 / 0.5**2 + rng.random(number) * (1 / smallest**2 - 1 / 0.5**2))
    places = rng.uniform(0, _CANVAS, (number, 2)).tolist()
    fills, flatness = rng.integers(len(palette), size=number), rng.uniform(0.4, 1.0, number)
    turns = rng.uniform(0, 2 * math.pi, (number, 1)) + 2 * math.pi * np.arange(corners) / corners
    largest = np.sort(radii)[::-1]
    waves = np.stack([np.cos(turns), np.sin(turns)], 2) * largest[:, None, None]
    outlines = (waves + np.array(places)[:, None]).reshape(number, -1).tolist()
    for index, radius in enumerate(largest.tolist()):
        fill = palette[int(fills[index])]
        if corners > 2:
            draw.polygon(outlines[index], fill=fill)
            continue
        (x, y), flat = places[index], radius * float(flatness[index])
        draw.ellipse((x - radius, y - flat, x + radius, y + flat), fill=fill)
    return canvas


def spectra(size: int, count: int, rng: np.random.Generator) -> list[Image.Image]:
    """Makes coloured noise whose power falls with frequency, steeply or hardly at all.

    Args:
        size: Side in pixels.
        count: Number of images.
        rng: Source of randomness.

    Returns:
        `count` RGB images, a quarter of them grey.
    """
    made = []
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1.0
    for index in range(count):
        stretch = rng.uniform(0.3, 1.0, 2) if index % 2 else np.ones(2)
        filtered = frequency ** -rng.uniform(0.0, 2.5) * stretch[0]
        white = np.fft.rfft2(rng.normal(size=(3, size, size)))
        field = np.fft.irfft2(white * filtered, s=(size, size))
        field /= field.std() + 1e-9
        mixing = rng.normal(size=(3, 3)) * rng.uniform(0.2, 1.0)
        mixing = np.tile(mixing[:1], (3, 1)) if index % 4 == 0 else mixing
        values = np.tensordot(mixing, field, 1).transpose(1, 2, 0)
        values = rng.uniform(60, 200) + rng.uniform(20, 70) * values
        made.append(Image.fromarray(values.clip(0, 255).astype(np.uint8)))
    return made


def _colour(rng: np.random.Generator, grey: bool) -> Colour:
    values = rng.integers(0, 256, 3)
    if grey:
        values[:] = values[0]
    return int(values[0]), int(values[1]), int(values[2])


def _apart(one: Colour, other: Colour) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def _shaded(one: Colour, other: Colour, rng: np.random.Generator) -> Image.Image:
    """A ground that runs from one colour to another in any direction."""
    angle = rng.uniform(0, 2 * math.pi)
    if one == other:
        return Image.new("RGB", (_CANVAS, _CANVAS), one)
    x = y = np.arange(_CANVAS) / _CANVAS - 0.5
    mix: NDArray[np.float64] = 0.5 + x * math.cos(angle) + y[:, None] * math.sin(angle)
    first, last = (np.array(colour, np.float64) for colour in (one, other))
    values = first + mix.clip(0, 1)[..., None] * (last - first)
    return Image.fromarray(values.astype(np.uint8))
