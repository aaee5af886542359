"""Sources on disk: folders of images, with classes, with splits, or flat."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from atd.config import DataConfig
from atd.data.images import ImageSet, join
from atd.data.layouts import Layout, find_layout
from atd.data.listing import LeftOut, list_images
from atd.data.reading import FilePixels
from atd.errors import UserError

__all__ = ["folder_layout", "image_folder"]


def image_folder(
    path: str, split: Literal["train", "val", "test", "all"], name: str, data: DataConfig
) -> ImageSet:
    """Opens a folder of images without decoding them.

    Subfolders are classes if there are two or more and no image lies beside them; otherwise the
    set has no labels. A folder that holds splits (see `atd.data.layouts`) gives the one asked for.

    Args:
        path: The folder.
        split: Which split, where there are splits.
        name: Name of the set.
        data: Image size and channels.

    Returns:
        The images; what else lies in the folder is in `left_out`.

    Raises:
        UserError: There is no such folder, no image in it, or splits that cannot be told apart.
    """
    root = _root(path)
    left_out = LeftOut()
    files = list_images(root, left_out)
    if not files:
        besides = f"; left out: {left_out}" if left_out else ""
        raise UserError(f"folder:{path}: no images in {root.absolute()} or below{besides}")
    layout = find_layout(str(root), files)
    if layout is None:
        return _plain(root, files, name, left_out, data)
    if split == "all":
        parts = [
            image_folder(f"{root}/{part}", "all", name, data) for part in layout.folders.values()
        ]
        return join(parts, name)
    part = layout.folder(split)
    images = image_folder(f"{root}/{part}", "all", name, data)
    note = f"folder:{path}: holds splits: {layout}"
    return dataclasses.replace(images, left_out=dataclasses.replace(images.left_out, note=note))


def folder_layout(path: str) -> Layout | None:
    """The layout of a folder that holds splits; None for others, also for one that is not there."""
    root = Path(path).expanduser()
    return find_layout(str(root), list_images(root)) if os.path.isdir(root) else None


def _root(path: str) -> Path:
    root = Path(path).expanduser()
    if not os.path.isdir(root):
        problem = "is a file, not a folder" if os.path.exists(root) else "no such folder"
        raise UserError(f"folder:{path}: {problem} (looked for {root.absolute()})")
    return root


def _plain(
    root: Path, files: list[str], name: str, left_out: LeftOut, data: DataConfig
) -> ImageSet:
    labels, classes, note = _class_folders(root, files)
    paths = [f"{root}/{file}" for file in files]
    pixels = FilePixels(paths, data.channels, data.image_size, data.scale)
    left_out = dataclasses.replace(left_out, note=note)
    return ImageSet.of(name, pixels, labels, classes, left_out)


def _class_folders(root: Path, files: list[str]) -> tuple[Tensor | None, list[str], str]:
    """Labels by top-level subfolder; none where images lie beside the subfolders."""
    tops = [file.partition("/")[0] for file in files]
    classes = sorted(set(tops))
    loose = [file for file in files if "/" not in file]
    folders = len(classes) - len(loose)
    if loose or folders < 2:
        beside = f"as {loose[0]} lies beside the {folders} subfolder(s)" if loose else ""
        return None, [], f"{root}: read without labels, {beside}" if loose and folders else ""
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and folder.name[0] not in "._" and folder.name not in classes:
            raise UserError(f"{folder}: this class folder holds no images; fill or remove it")
    number = {name: index for index, name in enumerate(classes)}
    return torch.tensor([number[top] for top in tops]), classes, ""
