"""Offline image sets, made of what scikit-learn, Matplotlib and Pillow bring along.

Training material (`photo-china`, `capitals`, `shapes`, `textures`) and test material (the other
sets) are disjoint by origin: different photographs, different glyphs, different processes.
Except for the digits, every image is stretched to the full range from black to white, as the
digits nearly are, so that brightness alone gives nothing away. All sets are fixed.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from atd.config import DataConfig
from atd.data import drawing, procedural
from atd.data.decoding import decode
from atd.data.images import HeldPixels, ImageSet, pick

__all__ = ["BUNDLED", "BundledSource", "bundled_set"]

Pictures = list[Image.Image]

_TEST_SHARE = 0.25  # of the digits
_LEAST_CONTRAST = 4.0  # grey levels
_PROCEDURAL = 8000  # images up to 64 px
# No B D G I J O Q S Z: as 8 x 8 pixels they are 8 0 6 1 1 0 0 5 2.
_CAPITALS = "ACEFHKLMNPRTUVWXY"
# Neither those that look like digits (b f g i j l o q r s y z) nor those whose capital has the
# same shape (c k p u v w x).
_LOWERCASE = "adehmnt"
# No & @ ? $ and brackets, which would pass for 8 0 7 5 and 1.
_SYMBOLS = "#%+=<>~^*±«»"


@dataclass(frozen=True)
class BundledSource:
    """How a bundled set is made.

    Attributes:
        about: What it shows.
        pictures: Makes the images, given their side in pixels and a source of randomness.
        has_test_split: Whether training and test split differ; if not, any split is the whole.
        digits: The classes, for sets of digits.
    """

    about: str
    pictures: Callable[[int, np.random.Generator], Pictures]
    has_test_split: bool = False
    digits: range = range(0)


def bundled_set(name: str, split: Literal["train", "test", "all"], data: DataConfig) -> ImageSet:
    """Makes a bundled set.

    Args:
        name: A key of `BUNDLED`.
        split: Part of the set; three quarters of the digits are for training.
        data: Image size and channels.

    Returns:
        The set, in memory.
    """
    source = BUNDLED[name]
    rng = np.random.default_rng(list(name.encode()))
    pictures = source.pictures(data.image_size, rng)
    adapt = (lambda image: image) if source.digits else _stretched
    pixels = torch.stack(
        [adapt(decode(picture, data.channels, data.image_size)) for picture in pictures]
    )
    names = [f"bundled:{name} #{index}" for index in range(len(pixels))]
    if not source.digits:
        return ImageSet.of(name, HeldPixels(pixels, names))
    labels = torch.from_numpy(_digit_labels(source.digits)) - source.digits.start
    classes = [str(digit) for digit in source.digits]
    whole = ImageSet.of(name, HeldPixels(pixels, names), labels, classes)
    if split == "all" or not source.has_test_split:
        return whole
    # Negatives are split as the digits are: those of training digits stay training material.
    key = f"bundled:{name.removesuffix('-inverted')}"
    test, train = pick(labels, round(_TEST_SHARE * len(labels)), 0, key)
    return whole.subset(test if split == "test" else train)


def _stretched(pixels: Tensor) -> Tensor:
    """Scales an image so that it spans 0 to 255, all channels alike."""
    low, high = (float(limit) for limit in torch.aminmax(pixels))
    return ((pixels - low) * (255 / max(high - low, 1))).round().to(torch.uint8)


def _digit_labels(digits: range) -> NDArray[np.int64]:
    from sklearn.datasets import load_digits

    labels = load_digits().target
    kept: NDArray[np.int64] = labels[np.isin(labels, digits)]
    return kept.astype(np.int64)


def _digits(digits: range, inverted: bool = False) -> Pictures:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    arrays = (bunch.images[np.isin(bunch.target, digits)] * 255 / 16).round().astype(np.uint8)
    return [Image.fromarray(255 - array if inverted else array) for array in arrays]


def _photo(file: str) -> Image.Image:
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(file))


def _portrait() -> Image.Image:
    return Image.open(_matplotlib_sample("grace_hopper.jpg")).convert("RGB")


def _terrain() -> Image.Image:
    return _grey(np.load(_matplotlib_sample("jacksboro_fault_dem.npz"))["elevation"])


def _mri() -> Image.Image:
    raw = gzip.decompress(_matplotlib_sample("s1045.ima.gz").read_bytes())
    return _grey(np.frombuffer(raw, np.uint16).reshape(256, 256))


def _matplotlib_sample(file: str) -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "sample_data" / file


def _grey(values: NDArray[np.integer[Any]]) -> Image.Image:
    low, high = np.percentile(values, [0.5, 99.5])
    return Image.fromarray(((values - low) / (high - low) * 255).clip(0, 255).astype(np.uint8))


def _fallback(size: int, rng: np.random.Generator) -> Pictures:
    return [
        *drawing.patches(_photo("china.jpg"), 1000, rng),
        *drawing.glyphs(_CAPITALS, 700, rng),
        *drawing.shapes(size, 300, rng),
        *drawing.textures(size, 300, rng),
    ]


def _procedural(size: int, rng: np.random.Generator) -> Pictures:
    # Large images take long to draw and much memory.
    count = _PROCEDURAL * min(1.0, 64 / size)
    made = [
        *procedural.signs(round(0.25 * count), rng),
        *procedural.leaves(round(0.36 * count), rng),
        *procedural.spectra(size, round(0.19 * count), rng),
        *drawing.shapes(size, round(0.1 * count), rng),
        *drawing.textures(size, round(0.1 * count), rng),
    ]
    # Ink may have the brightness of its ground: in grey nothing would be left.
    return [picture for picture in made if _contrast(picture) > _LEAST_CONTRAST]


def _contrast(picture: Image.Image) -> float:
    return float(np.asarray(picture.convert("L").resize((8, 8), Image.Resampling.BOX)).std())


BUNDLED: dict[str, BundledSource] = {
    "digits": BundledSource(
        "scikit-learn's 1797 handwritten digits, 8 x 8 pixels",
        lambda size, rng: _digits(range(10)),
        has_test_split=True,
        digits=range(10),
    ),
    "digits-0-7": BundledSource(
        "the digits 0 to 7, an ID set with near OOD digits left over",
        lambda size, rng: _digits(range(8)),
        has_test_split=True,
        digits=range(8),
    ),
    "digits-8-9": BundledSource(
        "the digits 8 and 9", lambda size, rng: _digits(range(8, 10)), digits=range(8, 10)
    ),
    "fallback": BundledSource(
        "outliers for training: patches of a photograph, capitals, shapes and textures", _fallback
    ),
    "procedural": BundledSource(
        "outliers for training: writing, overlapping leaves, coloured noise, shapes and textures",
        _procedural,
    ),
    "photo-china": BundledSource(
        "patches of scikit-learn's photograph of a Chinese temple; part of the fallback",
        lambda size, rng: drawing.patches(_photo("china.jpg"), 1000, rng),
    ),
    "capitals": BundledSource(
        "capital letters that do not look like digits; part of the fallback",
        lambda size, rng: drawing.glyphs(_CAPITALS, 700, rng),
    ),
    "shapes": BundledSource(
        "polygons, crosses and zigzags; part of the fallback",
        lambda size, rng: drawing.shapes(size, 300, rng),
    ),
    "textures": BundledSource(
        "gratings, plaids and checks; part of the fallback",
        lambda size, rng: drawing.textures(size, 300, rng),
    ),
    "photo-flower": BundledSource(
        "patches of scikit-learn's photograph of a dahlia",
        lambda size, rng: drawing.patches(_photo("flower.jpg"), 400, rng),
    ),
    "portrait": BundledSource(
        "patches of Matplotlib's photograph of Grace Hopper",
        lambda size, rng: drawing.patches(_portrait(), 400, rng),
    ),
    "terrain": BundledSource(
        "patches of Matplotlib's elevation map of the Jacksboro fault",
        lambda size, rng: drawing.patches(_terrain(), 400, rng),
    ),
    "mri": BundledSource(
        "patches of Matplotlib's magnetic resonance image of a head",
        lambda size, rng: drawing.patches(_mri(), 400, rng),
    ),
    "lowercase": BundledSource(
        "small letters that look neither like digits nor like capitals",
        lambda size, rng: drawing.glyphs(_LOWERCASE, 400, rng),
    ),
    "symbols": BundledSource(
        "punctuation and signs", lambda size, rng: drawing.glyphs(_SYMBOLS, 400, rng)
    ),
    "noise": BundledSource(
        "smooth noise of several scales", lambda size, rng: drawing.noise(size, 400, rng)
    ),
    "digits-inverted": BundledSource(
        "negatives of the digits, black on white",
        lambda size, rng: _digits(range(10), inverted=True),
        has_test_split=True,
        digits=range(10),
    ),
}
"""All bundled sets by name (written `bundled:NAME`)."""
