"""Whether the images of a run are still those that it began with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from atd.data.images import ImageSet
from atd.data.splits import DataSplits

__all__ = ["changed_images", "fingerprint_images"]

_SAMPLE = 32

Fingerprint = dict[str, dict[str, Any]]


def fingerprint_images(splits: DataSplits) -> Fingerprint:
    """What tells the sets of a run from others, cheaply.

    Args:
        splits: The sets; 32 images of each are decoded, spread over it.

    Returns:
        For each set its name, the number of its images, and hashes of all names, of all labels
        and of the sample's pixels. Nothing but numbers and strings.
    """
    sets = {
        "ID training": splits.id_train,
        "ID validation": splits.id_val,
        "ID test": splits.id_test,
        "outliers": splits.outlier_train,
        "OOD validation": splits.outlier_val,
        **{f"OOD test {name}": images for name, images in splits.ood_test.items()},
    }
    return {title: _fingerprint(images) for title, images in sets.items()}


def _fingerprint(images: ImageSet) -> dict[str, Any]:
    count = len(images)
    sample = torch.linspace(0, count - 1, min(count, _SAMPLE)).round().long()
    pixels = images.fetch(sample) if count else torch.zeros(0, dtype=torch.uint8)
    return {
        "name": images.name,
        "images": count,
        "files": _hash(name.encode() for name in images.names()),
        "labels": _hash([*map(str.encode, images.classes), images.labels.numpy().tobytes()]),
        "pixels": _hash([pixels.contiguous().numpy().tobytes()]),
    }


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def changed_images(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Says in a few words which sets are others than before.

    Args:
        before: An earlier `fingerprint_images`.
        now: The one of now.

    Returns:
        The first set that differs and how, and how many more do; empty if none does.
    """
    titles = [title for title in {**before, **now} if before.get(title) != now.get(title)]
    if not titles:
        return ""
    title = titles[0]
    more = f" (and {len(titles) - 1} more sets differ)" if len(titles) > 1 else ""
    return f"{_difference(title, before.get(title, {}), now.get(title, {}))}{more}"


def _difference(title: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    name = now.get("name") or before.get("name")
    counts = before.get("images", 0), now.get("images", 0)
    if counts[0] != counts[1]:
        return f"{title} ({name}) had {counts[0]} images and has {counts[1]} now"
    what = next(key for key in ("files", "labels", "pixels", "name") if before[key] != now[key])
    others = {"files": "other files", "labels": "other labels", "pixels": "other pixels"}
    return f"{title} ({name}) has {counts[1]} images as before, but {others.get(what, what)}"
