"""Image sources by name: one string says where images come from."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from atd.config import DataConfig, LoaderConfig
from atd.data.altered import altered
from atd.data.bundled import BUNDLED, bundled_set
from atd.data.folders import folder_layout, image_folder
from atd.data.image_list import image_list, list_name
from atd.data.images import ImageSet, join
from atd.data.reading import settle
from atd.data.sampler import generator_for
from atd.data.torchvision_sets import TORCHVISION, torchvision_set
from atd.errors import UserError

__all__ = [
    "Split",
    "defect_sources",
    "has_test_split",
    "has_val_split",
    "jigsaw",
    "load_source",
    "open_source",
    "source_name",
    "split_mixture",
]

Split = Literal["train", "val", "test", "all"]

_GENERIC_FOLDERS = {"train", "test", "val", "valid", "validation", "all", "images", "data"}


def load_source(source: str, *, split: Split, data: DataConfig, loader: LoaderConfig) -> ImageSet:
    """Opens a source and reads it: see `open_source` for the names and `settle` for reading.

    Args:
        source: Name of the source.
        split: Part of the source; a source without parts is the whole thing for any split.
        data: Image size, channels, root folder, what to do with unreadable images.
        loader: Memory limit; a larger set streams from disk.

    Returns:
        The images, every one of which has been decoded once.

    Raises:
        UserError: Unknown source, missing or empty folder, unreadable image.
    """
    return settle(open_source(source, split=split, data=data), data, loader)[0]


def open_source(source: str, *, split: Split, data: DataConfig) -> ImageSet:
    """Finds the images of a source without decoding files.

    * `cifar10`, `svhn`, ...: torchvision's data sets under `data.root`, downloaded if absent.
    * `folder:PATH`: all images below PATH, or those of the split where PATH holds splits, see
      `atd.data.folders`.
    * `list:FILE` or `list:FILE.txt@ROOT`: the images that a text file names, see
      `atd.data.image_list`.
    * `bundled:NAME`: offline sets, see `atd.data.bundled`.
    * `jigsaw:SOURCE`: the images of a source with their tiles permuted.
    * `altered:SOURCE`: outliers of six kinds made of a source's images, see `atd.data.altered`.
    * `A + B`: several sources one behind the other.

    Args:
        source: Name of the source.
        split: Part of the source.
        data: Image size, channels and root folder.

    Returns:
        The set, whose files are decoded when they are fetched.

    Raises:
        UserError: Unknown source, missing or empty folder or list, failed download.
    """
    parts = split_mixture(source)
    sets = [_open_one(part, split, data) for part in parts]
    return join(sets, source_name(source))


def has_test_split(source: str) -> bool:
    """Says whether a source has a test split of its own, disjoint from its training split."""
    return all(_has_split(part, "test") for part in split_mixture(source))


def has_val_split(source: str) -> bool:
    """Says whether a source has a validation split of its own; only folders do."""
    return all(_has_split(part, "val") for part in split_mixture(source))


def defect_sources(source: str) -> dict[str, str]:
    """The defects that lie beside the ID test images of a source, as in MVTec AD.

    Returns:
        The source of each by its name; nothing for most sources.
    """
    kind, _, path = source.partition(":")
    layout = folder_layout(path) if kind == "folder" else None
    if layout is None:
        return {}
    return {
        _safe(Path(folder).name) or "defect": f"{source.rstrip('/')}/{folder}"
        for folder in layout.defects
    }


def source_name(source: str) -> str:
    """Makes a short name, safe for files, from a source: `folder:x/svhn/test` -> `svhn`."""
    names = [_name_of_part(part) for part in split_mixture(source)]
    return "+".join(names)


def jigsaw(images: ImageSet) -> ImageSet:
    """Cuts images into 4 x 4 equal tiles and permutes them, always in the same way.

    Local statistics stay those of the images while the objects are gone (Hendrycks et al.,
    "Deep Anomaly Detection with Outlier Exposure", ICLR 2019, appendix A). Where the side is not
    a multiple of 4, up to three pixels at the right and the bottom stay in place.

    Args:
        images: Any set.

    Returns:
        As many images, without labels, named `<name>-jigsaw`.
    """
    return ImageSet.of(f"{images.name}-jigsaw", _JigsawPixels(images))


@dataclass(frozen=True, eq=False)
class _JigsawPixels:
    images: ImageSet

    def __len__(self) -> int:
        return len(self.images)

    def fetch(self, rows: Sequence[int]) -> Tensor:
        whole = self.images.fetch(rows)
        count, channels, side = whole.shape[:3]
        tile = side // 4
        used = whole[:, :, : 4 * tile, : 4 * tile]
        tiles = used.reshape(count, channels, 4, tile, 4, tile).permute(0, 2, 4, 1, 3, 5)
        tiles = tiles.reshape(count, 16, channels, tile, tile)
        order = torch.stack([_derangement(row) for row in rows])
        mixed = tiles[torch.arange(count)[:, None], order].reshape(
            count, 4, 4, channels, tile, tile
        )
        result = whole.clone()
        result[:, :, : 4 * tile, : 4 * tile] = mixed.permute(0, 3, 1, 4, 2, 5).reshape(used.shape)
        return result

    def name_of(self, row: int) -> str:
        return f"jigsaw of {self.images.name_of(row)}"


def _derangement(row: int) -> Tensor:
    """A permutation of 16 tiles that leaves at most one in place."""
    generator = generator_for("jigsaw", row)
    while True:
        order = torch.randperm(16, generator=generator)
        if (order == torch.arange(16)).sum() <= 1:
            return order


def split_mixture(source: str) -> list[str]:
    """Separates the sources of a mixture `A + B`."""
    parts = [part.strip() for part in source.split(" + ")]
    if not all(parts):
        raise UserError(f"source '{source}': a mixture is written 'A + B'")
    return parts


def _open_one(source: str, split: Split, data: DataConfig) -> ImageSet:
    kind, _, rest = source.partition(":")
    match kind, bool(rest):
        case "folder", True:
            return image_folder(rest, split, _name_of_part(source), data)
        case "list", True:
            return image_list(rest, data).renamed(_name_of_part(source))
        case "jigsaw", True:
            return jigsaw(_open_one(rest, split, data))
        case "altered", True:
            return altered(_open_one(rest, split, data))
        case "bundled", True if rest in BUNDLED:
            return bundled_set(rest, _without_val(split), data)
    if source in TORCHVISION:
        return torchvision_set(source, _without_val(split), data)
    raise _unknown(source)


def _without_val(split: Split) -> Literal["train", "test", "all"]:
    return "test" if split == "val" else split


def _has_split(source: str, split: Literal["val", "test"]) -> bool:
    kind, _, rest = source.partition(":")
    match kind:
        case "jigsaw" | "altered":
            return _has_split(rest, split)
        case "folder":
            layout = folder_layout(rest)
            return layout is not None and {"train", split} <= layout.folders.keys()
    if split == "val":
        return False
    if kind == "bundled":
        return rest in BUNDLED and BUNDLED[rest].has_test_split
    return source in TORCHVISION and TORCHVISION[source].test is not None


def _name_of_part(source: str) -> str:
    kind, _, rest = source.partition(":")
    match kind:
        case "jigsaw" | "altered":
            return f"{_name_of_part(rest)}-{kind}"
        case "folder":
            path = Path(rest).resolve()
            name = path.parent.name if path.name.lower() in _GENERIC_FOLDERS else path.name
            return _safe(name or path.name) or "folder"
        case "list":
            return _safe(list_name(rest)) or "list"
        case _:
            return rest or kind


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".")


def _unknown(source: str) -> UserError:
    known = [*TORCHVISION, *(f"bundled:{name}" for name in BUNDLED)]
    if os.path.exists(source):
        return UserError(f"{source}: a folder is written folder:{source}")
    nearest = difflib.get_close_matches(source.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}?" if nearest else "sources are " + ", ".join(known)
    return UserError(f"{source}: unknown source; {hint} (your own images: folder:PATH)")
