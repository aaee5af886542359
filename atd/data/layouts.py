"""Folders that hold splits: torchvision's `train/ val/ test/` and MVTec's good and defects."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from atd.errors import UserError

__all__ = ["Layout", "Part", "find_layout"]

Part = Literal["train", "val", "test"]

_PARTS: dict[Part, str] = {
    "train": "train|training",
    "val": "val|valid|validation",
    "test": "test|testing",
}
_SUFFIX = r"([-_ .]?(set|data|split|images|imgs|\d{1,4}))?"
_MASKS = {"ground_truth", "groundtruth", "masks"}
_GOOD = {"good", "normal", "ok"}


@dataclass(frozen=True)
class Layout:
    """Which subfolder of a folder is which split.

    Attributes:
        folders: The subfolder of each split that is there, e.g. `train`, `test/good`.
        defects: Subfolders of defects, e.g. `test/broken`; sorted.
        masks: Subfolders with drawings of the defects, which are no images to score.
    """

    folders: dict[Part, str]
    defects: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()

    def folder(self, split: Part) -> str:
        """The subfolder that is used for a split, or for what comes closest to it."""
        closest: dict[Part, tuple[Part, ...]] = {
            "train": ("train", "val", "test"),
            "val": ("val", "test", "train"),
            "test": ("test", "val", "train"),
        }
        return next(self.folders[part] for part in closest[split] if part in self.folders)

    def __str__(self) -> str:
        """In a few words: `train/ as training split, test/good/ as test split`."""
        names = {"train": "training", "val": "validation", "test": "test"}
        words = [f"{folder}/ as {names[part]} split" for part, folder in self.folders.items()]
        words += [f"{folder}/ as OOD test set" for folder in self.defects]
        words += [f"{folder}/ left out" for folder in self.masks]
        return ", ".join(words)


def find_layout(root: str, files: Sequence[str]) -> Layout | None:
    """Tells a folder that holds splits from one that holds classes.

    A folder holds splits if two of its subfolders, or one that has class folders, are named like
    splits (`train`, `Training`, `val2017`, `test-images`, ...). If the training images are of one
    class, or in no class folder, and the test split holds a folder of that name, or called `good`,
    `normal` or `ok`, the others there are defects, as in MVTec AD. If they are of several classes,
    the other splits hold the same ones, or images in no class folder.

    Args:
        root: The folder, for messages.
        files: Images below it, as paths relative to it.

    Returns:
        The layout; None for a folder without splits.

    Raises:
        UserError: Splits lie beside other things, or one level deeper, so that what is meant
            cannot be told; the message names a folder to give instead.
    """
    tops, loose = _tops(files), next((file for file in files if "/" not in file), "")
    masks = tuple(name for name in tops if name.lower() in _MASKS)
    found = {name: part for name in tops if (part := _part(name))}
    others = [name for name in tops if name not in found and name not in masks]
    others += [loose] if loose else []
    if not found or (len(found) < 2 and others and not _is_nested(files, next(iter(found)))):
        _forbid_deeper(root, files)
        return None
    folders = {part: name for name, part in found.items()}
    if others or len(folders) < len(found):
        beside = f"beside {others[0]}" if others else "for the same purpose"
        raise UserError(
            f"folder:{root}: holds the splits {', '.join(f'{name}/' for name in found)} {beside}; "
            f"name the folder that is meant, e.g. folder:{root}/{next(iter(found))}"
        )
    inner = {part: _below(files, name) for part, name in folders.items()}
    for part, name in folders.items():
        if find_layout(f"{root}/{name}", inner[part]):
            raise UserError(f"folder:{root}: holds splits within {name}/; name one of them")
    ordered: dict[Part, str] = {part: folders[part] for part in _PARTS if part in folders}
    _forbid_other_classes(root, ordered, inner)
    good, defects = _defects(root, ordered, inner)
    if good:
        divided = {part: name for part, name in ordered.items() if good in _tops(inner[part])}
        ordered |= {part: f"{name}/{good}" for part, name in divided.items() if part != "train"}
    return Layout(ordered, tuple(f"{folders['test']}/{name}" for name in defects), masks)


def _part(name: str) -> Part | None:
    parts = (
        part
        for part, names in _PARTS.items()
        if re.fullmatch(f"({names}){_SUFFIX}", name, re.IGNORECASE)
    )
    return next(parts, None)


def _tops(files: Iterable[str]) -> list[str]:
    """Names of the subfolders that hold images."""
    return list(dict.fromkeys(file.partition("/")[0] for file in files if "/" in file))


def _is_nested(files: Iterable[str], folder: str) -> bool:
    """Whether all images below a folder lie in subfolders of it, as those of a split do."""
    return all("/" in file for file in _below(files, folder))


def _below(files: Iterable[str], folder: str) -> list[str]:
    prefix = f"{folder}/"
    return [file.removeprefix(prefix) for file in files if file.startswith(prefix)]


def _forbid_deeper(root: str, files: Sequence[str]) -> None:
    """Classes called train and test would come of categories that hold splits of their own."""
    parts: dict[str, set[Part]] = {}
    for folder in dict.fromkeys(os.path.dirname(file) for file in files):
        names = folder.split("/")
        if len(names) > 1 and (part := _part(names[1])):
            parts.setdefault(names[0], set()).add(part)
    divided = [folder for folder, found in parts.items() if len(found) > 1]
    if divided:
        raise UserError(
            f"folder:{root}: its subfolder {divided[0]}/ holds splits of its own; name one, e.g. "
            f"folder:{root}/{divided[0]}"
        )


def _defects(
    root: str, folders: dict[Part, str], inner: dict[Part, list[str]]
) -> tuple[str, tuple[str, ...]]:
    """The test folder with ID images and those with defects; nothing where there are classes."""
    classes, tested = _tops(inner.get("train", [])), _tops(inner.get("test", []))
    if len(classes) > 1 or "train" not in folders or not tested:
        return "", ()
    good = [name for name in tested if name in classes or name.lower() in _GOOD]
    if len(good) == 1:
        return good[0], tuple(sorted(set(tested) - set(good)))
    test = f"{root}/{folders['test']}"
    raise UserError(
        f"folder:{root}: which of the folders in {folders['test']}/ ({', '.join(tested[:4])}) "
        f"hold ID images? none is called like those of {folders['train']}/; say it with "
        f"data.id=folder:{root}/{folders['train']} data.ood_test=[folder:{test}/{tested[0]}]"
    )


def _forbid_other_classes(
    root: str, folders: dict[Part, str], inner: dict[Part, list[str]]
) -> None:
    """Defects beside several training classes would pass for ID images."""
    classes = _tops(inner.get("train", []))
    if len(classes) < 2:
        return
    for part, folder in folders.items():
        others = [name for name in _tops(inner[part]) if name not in classes]
        if others:
            raise UserError(
                f"folder:{root}: {folder}/ holds {', '.join(f'{name}/' for name in others[:4])}, "
                f"which {'is' if len(others) == 1 else 'are'} no class of {folders['train']}/; "
                f"name what is meant: data.id=folder:{root}/{folders['train']}, and "
                f"folder:{root}/{folder}/{others[0]} as data.id_test or in data.ood_test"
            )
