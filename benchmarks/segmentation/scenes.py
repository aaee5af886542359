"""Scenes for segmentation, made offline: objects over photographs, with a class for each pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from atd.data.drawing import glyphs

__all__ = ["CLASSES", "Scenes", "make_scenes"]

CLASSES = ("background", "digit", "disc", "triangle", "rectangle")
Split = Literal["train", "test"]
_FINE = 4  # masks are drawn larger and resized


@dataclass(frozen=True)
class Scenes:
    """Images with a class for each pixel.

    Attributes:
        images: (N, 3, S, S), float in [0, 1].
        labels: (N, S, S), int64; an index into `CLASSES`, -1 where the object is unknown.
    """

    images: Tensor
    labels: Tensor

    def take(self, count: int) -> Scenes:
        return Scenes(self.images[:count], self.labels[:count])


def make_scenes(count: int, size: int, split: Split, seed: int, unknown: bool = False) -> Scenes:
    """Puts two or three objects over a piece of a photograph.

    Photographs are scikit-learn's two; training scenes lie over the left three fifths of each and
    test scenes over the rest, and their digits are different ones.

    Args:
        count: Number of scenes.
        size: Side in pixels.
        split: Which part of photographs and digits.
        seed: The same seed gives the same scenes.
        unknown: One object more, a letter or a cross.
    """
    rng = np.random.default_rng([seed, split == "train"])
    pairs = [_scene(size, split, rng, unknown) for _ in range(count)]
    images, labels = (np.stack(part) for part in zip(*pairs, strict=True))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return Scenes(pixels.contiguous(), torch.from_numpy(labels))


def _scene(
    size: int, split: Split, rng: np.random.Generator, unknown: bool
) -> tuple[np.ndarray, np.ndarray]:
    image = _ground(size, split, rng)
    labels = np.zeros((size, size), np.int64)
    for _ in range(int(rng.integers(2, 4))):
        label = int(rng.integers(1, len(CLASSES)))
        _place(image, labels, _known(label, size, split, rng), label, rng)
    if unknown:
        _place(image, labels, _unknown(size, rng), -1, rng)
    return image, labels


def _ground(size: int, split: Split, rng: np.random.Generator) -> np.ndarray:
    photo = _photographs()[int(rng.integers(2))]
    edge = photo.width * 3 // 5
    left, right = (0, edge) if split == "train" else (edge, photo.width)
    side = int(rng.integers(min(size, 100), 200))
    x, y = int(rng.integers(left, right - side + 1)), int(rng.integers(photo.height - side + 1))
    piece = photo.resize((size, size), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
    return np.array(piece)


def _place(
    image: np.ndarray, labels: np.ndarray, mask: Image.Image, label: int, rng: np.random.Generator
) -> None:
    """Paints an object in a colour of its own, with a little texture, somewhere in the scene."""
    size, width, height = len(image), *mask.size
    x, y = (int(rng.integers(0, size - side + 1)) for side in (width, height))
    alpha = np.asarray(mask)[:, :, None] / 255
    colour = rng.integers(0, 256, 3) + rng.normal(0, 12, (height, width, 1))
    part = image[y : y + height, x : x + width]
    part[:] = (alpha * colour.clip(0, 255) + (1 - alpha) * part).round().astype(np.uint8)
    labels[y : y + height, x : x + width][alpha[:, :, 0] > 0.5] = label


def _known(label: int, size: int, split: Split, rng: np.random.Generator) -> Image.Image:
    side = int(size * rng.uniform(0.3, 0.5))
    if CLASSES[label] == "digit":
        digits = _digits(split)
        return _stencil(Image.fromarray(digits[int(rng.integers(len(digits)))]), side)
    canvas = Image.new("L", (side * _FINE, side * _FINE))
    draw, reach = ImageDraw.Draw(canvas), side * _FINE / 2
    match CLASSES[label]:
        case "disc":
            draw.ellipse((0, 0, 2 * reach - 1, 2 * reach - 1), 255)
        case "triangle":
            draw.regular_polygon((reach, reach, reach), 3, float(rng.uniform(0, 120)), 255)
        case "rectangle":
            flat = reach * rng.uniform(0.4, 0.8)
            box = (0, reach - flat, 2 * reach - 1, reach + flat)
            draw.rectangle(box if rng.random() < 0.5 else (box[1], box[0], box[3], box[2]), 255)
    return canvas.resize((side, side), Image.Resampling.BOX)


def _unknown(size: int, rng: np.random.Generator) -> Image.Image:
    side = int(size * rng.uniform(0.4, 0.55))
    if rng.random() < 0.5:
        letter = "ABCDEFGHKMNPQRSTUVWXYZ"[int(rng.integers(22))]
        return _stencil(glyphs(letter, 1, rng)[0], side)
    canvas = Image.new("L", (side * _FINE, side * _FINE))
    reach, draw = side * _FINE / 2, ImageDraw.Draw(canvas)
    for turn in (0.0, math.pi / 2):
        angle = turn + float(rng.uniform(0, 0.6))
        step = np.array([math.cos(angle), math.sin(angle)]) * reach * 0.9
        ends = [tuple(reach - step), tuple(reach + step)]
        draw.line(ends, 255, width=max(1, round(reach / 3)))
    return canvas.resize((side, side), Image.Resampling.BOX)


def _stencil(picture: Image.Image, side: int) -> Image.Image:
    """A character of 8 x 8 grey pixels, larger, with clear edges."""
    larger = picture.resize((side, side), Image.Resampling.BICUBIC)
    return larger.point(lambda level: max(0, min(255, (level - 90) * 4)))


@cache
def _photographs() -> list[Image.Image]:
    from sklearn.datasets import load_sample_image

    return [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]


@cache
def _digits(split: Split) -> np.ndarray:
    from sklearn.datasets import load_digits

    images = (load_digits().images * 255 / 16).round().astype(np.uint8)
    return images[:1200] if split == "train" else images[1200:]
