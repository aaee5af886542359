"""Whether the images of a run are still those that it began with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from atd.data.images import ImageSet
from atd.data.sampler import evenly_spaced
from atd.data.splits import DataSplits

__all__ = ["changed_images", "fingerprint_images"]

_SAMPLE = 32
_TEST = "OOD test "
_OUTSIDE = ("outliers", "OOD validation")

Fingerprint = dict[str, dict[str, Any]]


def fingerprint_images(splits: DataSplits) -> Fingerprint:
    """What tells the sets of a run from others, cheaply.

    Args:
        splits: The sets; 32 images of each are decoded, spread over it.

    Returns:
        For each set its name, the number of its images, and hashes of all names, of all labels,
        of the sample's pixels and, where the images have just been read, of all their pixels.
        Nothing but numbers and strings.
    """
    sets = {
        "ID training": splits.id_train,
        "ID validation": splits.id_val,
        "ID test": splits.id_test,
        "outliers": splits.outlier_train,
        "OOD validation": splits.outlier_val,
        **{f"{_TEST}{name}": images for name, images in splits.ood_test.items()},
    }
    contents = splits.contents
    return {
        title: _fingerprint(images, contents.get(title, ""))
        for title, images in sets.items()
        if images is not None
    }


def _fingerprint(images: ImageSet, content: str) -> dict[str, Any]:
    count = len(images)
    sample = evenly_spaced(count, _SAMPLE)
    pixels = images.fetch(sample) if count else torch.zeros(0, dtype=torch.uint8)
    return {
        "name": images.name,
        "images": count,
        "files": _hash(name.encode("utf-8", "surrogateescape") for name in images.names()),
        "labels": _hash([*map(os.fsencode, images.classes), images.labels.numpy().tobytes()]),
        "pixels": _hash([pixels.contiguous().numpy().tobytes()]),
        "content": content,
    }


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def changed_images(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Says in a few words which sets are others than before.

    A set that was moved or renamed is the same as long as its images, in their order, and its
    labels are the same.

    Outliers that nothing learns from are in neither, or in one of an earlier version.

    Args:
        before: An earlier `fingerprint_images`.
        now: The one of now.

    Returns:
        The first set that differs and how, and how many more do; empty if none does.
    """
    before = {title: one for title, one in before.items() if title in now or title not in _OUTSIDE}
    titles = [title for title in before if not _is_among(title, before, now)]
    titles += [title for title in now if title not in titles and not _is_among(title, now, before)]
    if not titles:
        return ""
    title = titles[0]
    more = f" (and {len(titles) - 1} more sets differ)" if len(titles) > 1 else ""
    return f"{_difference(title, before.get(title, {}), now.get(title, {}))}{more}"


def _is_among(title: str, some: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether a set is among the others: under its title, or, an OOD test, under another one."""
    titles = [other for other in others if title.startswith(_TEST) and other.startswith(_TEST)]
    return any(_same(some[title], others.get(other, {})) for other in [title, *titles])


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    # Runs of earlier versions noted no hash of all pixels, so their files must have their names.
    known = one.get("content") and other.get("content")
    keys = ("images", "labels", "content") if known else ("name", "images", "files", "labels")
    return all(one.get(key) == other.get(key) for key in (*keys, "pixels"))


def _difference(title: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    name = now.get("name") or before.get("name")
    counts = before.get("images", 0), now.get("images", 0)
    if counts[0] != counts[1]:
        return f"{title} ({name}) had {counts[0]} images and has {counts[1]} now"
    keys = ("labels", "pixels", "content", "files", "name")
    what = next(key for key in keys if before.get(key) != now.get(key))
    words = {"files": "other files", "labels": "other labels", "name": "another name"}
    other = words.get(what, "other pixels")
    return f"{title} ({name}) has {counts[1]} images as before, but {other}"
