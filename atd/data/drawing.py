"""Pictures made on the spot: letters, shapes, textures, noise, and patches of real images."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["glyphs", "noise", "patches", "shapes", "textures"]

_CANVAS = 64
_BITMAP = 32
_FLAT = 18  # standard deviation of grey levels below which a patch shows nothing


def glyphs(characters: str, count: int, rng: np.random.Generator) -> list[Image.Image]:
    """Draws characters of Pillow's own font in the way scikit-learn's digits were made.

    Each is a black-and-white bitmap of 32 x 32, of which every 4 x 4 block is counted: 8 x 8
    pixels with 17 levels, white on black. Size, position, stroke, rotation and slant vary.

    Args:
        characters: What to draw, in turn.
        count: Number of images.
        rng: Source of randomness.

    Returns:
        `count` grey images of 8 x 8.
    """
    return [_glyph(characters[index % len(characters)], rng) for index in range(count)]


def _glyph(character: str, rng: np.random.Generator) -> Image.Image:
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    draw = ImageDraw.Draw(canvas)
    stroke = float(rng.uniform(0.0, 1.5))
    centre = (_CANVAS / 2, _CANVAS / 2)
    draw.text(centre, character, 255, _font(), anchor="mm", stroke_width=stroke)
    angle, slant = math.radians(rng.uniform(-12, 12)), rng.uniform(-0.2, 0.2)
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1, slant], [0, 1]])
    offset = np.array(centre) - matrix @ np.array(centre)
    affine = (*matrix[0], offset[0], *matrix[1], offset[1])
    canvas = canvas.transform(
        canvas.size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
    )
    box = canvas.getbbox() or (0, 0, _CANVAS, _CANVAS)
    width, height = box[2] - box[0], box[3] - box[1]
    scale = rng.uniform(0.8, 1.0) * _BITMAP / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    left = (_BITMAP - size[0]) // 2 + int(rng.integers(-1, 2))
    top = (_BITMAP - size[1]) // 2 + int(rng.integers(-1, 2))
    bitmap = Image.new("L", (_BITMAP, _BITMAP))
    bitmap.paste(canvas.resize(size, Image.Resampling.BILINEAR, box=box), (left, top))
    blocks = (np.asarray(bitmap) > 127).reshape(8, 4, 8, 4).sum((1, 3))
    return Image.fromarray((blocks * 255 / 16).round().astype(np.uint8))


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=44)


def patches(
    image: Image.Image, count: int, rng: np.random.Generator, smallest: int = 16
) -> list[Image.Image]:
    """Cuts square patches of several scales out of an image, none of them almost flat.

    Args:
        image: The image, grey or RGB.
        count: Number of patches.
        rng: Source of randomness.
        smallest: Side of the smallest patch; the largest is three quarters of the shorter side.

    Returns:
        `count` patches of different sizes.
    """
    largest = 0.75 * min(image.size)
    found: list[Image.Image] = []
    while len(found) < count:
        side = round(math.exp(rng.uniform(math.log(smallest), math.log(largest))))
        left = int(rng.integers(0, image.width - side + 1))
        top = int(rng.integers(0, image.height - side + 1))
        patch = image.crop((left, top, left + side, top + side))
        if np.asarray(patch.convert("L")).std() > _FLAT:
            found.append(patch)
    return found


def shapes(size: int, count: int, rng: np.random.Generator) -> list[Image.Image]:
    """Draws one to three filled triangles, rectangles, crosses or zigzags on a plain ground.

    Rings and single strokes are left out: they would be zeros and ones.

    Args:
        size: Side in pixels.
        count: Number of images.
        rng: Source of randomness.

    Returns:
        `count` RGB images, half of them grey.
    """
    return [_shape_image(size, index % 2 == 0, rng) for index in range(count)]


def _shape_image(size: int, grey: bool, rng: np.random.Generator) -> Image.Image:
    scale = 4 if size <= 64 else 2  # drawn larger and resized: antialiased edges
    canvas = Image.new("RGB", (size * scale, size * scale), _colour(grey, rng, dark=True))
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(1, 4))):
        kind = _SHAPES[int(rng.integers(len(_SHAPES)))]
        reach = rng.uniform(0.2, 0.45)
        centre = rng.uniform(0.3, 0.7, 2)
        angle = rng.uniform(0, 2 * math.pi)
        kind(draw, centre * size * scale, reach * size * scale, angle, _colour(grey, rng))
    return canvas.resize((size, size), Image.Resampling.BOX)


Point = tuple[float, float]
Colour = tuple[int, int, int]


def _colour(grey: bool, rng: np.random.Generator, dark: bool = False) -> Colour:
    values = rng.integers(0, 90, 3) if dark else rng.integers(110, 256, 3)
    if grey:
        values[:] = values[0]
    return int(values[0]), int(values[1]), int(values[2])


def _turned(points: list[Point], centre: NDArray[np.float64], angle: float) -> list[Point]:
    cosine, sine = math.cos(angle), math.sin(angle)
    x, y = centre
    return [(x + cosine * a - sine * b, y + sine * a + cosine * b) for a, b in points]


def _polygon(
    draw: ImageDraw.ImageDraw,
    centre: NDArray[np.float64],
    reach: float,
    angle: float,
    colour: Colour,
    corners: int = 3,
) -> None:
    steps = [2 * math.pi * corner / corners for corner in range(corners)]
    points = [(reach * math.cos(step), reach * math.sin(step)) for step in steps]
    draw.polygon(_turned(points, centre, angle), fill=colour)


def _cross(
    draw: ImageDraw.ImageDraw,
    centre: NDArray[np.float64],
    reach: float,
    angle: float,
    colour: Colour,
) -> None:
    for line in ([(-reach, 0.0), (reach, 0.0)], [(0.0, -reach), (0.0, reach)]):
        draw.line(_turned(line, centre, angle), fill=colour, width=max(1, round(reach / 3)))


def _zigzag(
    draw: ImageDraw.ImageDraw,
    centre: NDArray[np.float64],
    reach: float,
    angle: float,
    colour: Colour,
) -> None:
    points = [(reach * (step / 2 - 1), reach * (0.5 - step % 2)) for step in range(5)]
    draw.line(_turned(points, centre, angle), fill=colour, width=max(1, round(reach / 4)))


_SHAPES: tuple[Callable[..., None], ...] = (
    _polygon,
    functools.partial(_polygon, corners=4),
    functools.partial(_polygon, corners=5),
    _cross,
    _zigzag,
)


def textures(size: int, count: int, rng: np.random.Generator) -> list[Image.Image]:
    """Makes gratings, plaids and checks of random period, direction and contrast profile.

    Args:
        size: Side in pixels.
        count: Number of images.
        rng: Source of randomness.

    Returns:
        `count` RGB images, half of them grey.
    """
    made = []
    for index in range(count):
        waves = [_wave(size, rng) for _ in range(2)]
        pattern = (waves[0], waves[0] + waves[1], waves[0] * waves[1])[index % 3]
        sharpness = math.exp(rng.uniform(-1, 2))
        mixed = (1 + np.tanh(sharpness * pattern)) / 2
        made.append(_painted(mixed, index % 2 == 0, rng))
    return made


def _wave(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(size, size) values in [-1, 1]; a period is at least four pixels."""
    y, x = np.mgrid[0:size, 0:size] / size
    cycles = math.exp(rng.uniform(math.log(1.5), math.log(size / 4)))
    angle, phase = rng.uniform(0, 2 * math.pi, 2)
    wave: NDArray[np.float64] = np.sin(
        2 * math.pi * cycles * (x * math.cos(angle) + y * math.sin(angle)) + phase
    )
    return wave


def noise(size: int, count: int, rng: np.random.Generator) -> list[Image.Image]:
    """Makes smooth noise, from grains of a pixel to blots of a third of the image.

    Args:
        size: Side in pixels.
        count: Number of images.
        rng: Source of randomness.

    Returns:
        `count` RGB images, half of them grey, some mostly dark and some mostly bright.
    """
    made = []
    for index in range(count):
        cells = round(math.exp(rng.uniform(math.log(3), math.log(size))))
        grid = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
        values = np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)
        values = (values - values.min()) / (values.max() - values.min())
        made.append(_painted(values ** math.exp(rng.uniform(-1, 1)), index % 2 == 0, rng))
    return made


def _painted(mix: NDArray[np.float64], grey: bool, rng: np.random.Generator) -> Image.Image:
    """Mixes a dark and a bright colour, by values in [0, 1]."""
    low = np.array(_colour(grey, rng, dark=True), dtype=np.float64)
    high = np.array(_colour(grey, rng), dtype=np.float64)
    mixed = low + mix[..., None] * (high - low)
    return Image.fromarray(mixed.round().astype(np.uint8))
