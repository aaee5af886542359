"""Image lists: a text file that names images and their labels, as OpenOOD distributes them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import torch
from torch import Tensor

from atd.config import DataConfig
from atd.data.images import ImageSet
from atd.data.reading import FilePixels
from atd.errors import UserError

__all__ = ["image_list", "list_name"]

_IMAGE_FOLDERS = ("images_classic", "images_largescale")
"""Where OpenOOD keeps its images, beside the folder `benchmark_imglist` of its lists."""


def image_list(spec: str, data: DataConfig) -> ImageSet:
    """Opens the images that a list names, without decoding them.

    Each line is `relative/path label`, where -1 is no label; the path may hold spaces. Labels
    become classes if every image has one and there are two or more. A class is called as the
    folder of its images where each class has a folder of its own, otherwise by its number.

    Args:
        spec: `FILE`, or `FILE@ROOT` where FILE ends in `.txt`. Paths are relative to ROOT; without
            it to the folder of the list or, for a list in OpenOOD's `benchmark_imglist/NAME/`, to
            its image folders.
        data: Image size and channels.

    Returns:
        The images in the order of the list.

    Raises:
        UserError: The list is missing, empty or malformed, or it names an image that is missing.
    """
    name, root_name = _divide(spec)
    file = Path(name).expanduser().absolute()
    if not os.path.isfile(file):
        raise UserError(f"list:{spec}: no such list (looked for {file})")
    entries = _read(file)
    paths = [path for path, _ in entries]
    root = Path(root_name).expanduser() if root_name else _default_root(file, paths[0])
    missing = [path for path in paths if not os.path.isfile(root / path)]
    if missing:
        raise UserError(
            f"{file}: {len(missing)} of its {len(paths)} images are missing, first "
            f"{root / missing[0]}; the folder of the images may be given as list:FILE.txt@ROOT"
        )
    pixels = FilePixels(
        [f"{root}/{path}" for path in paths], data.channels, data.image_size, data.scale
    )
    return ImageSet.of(list_name(spec), pixels, *_classes(entries))


def list_name(spec: str) -> str:
    """The name of a listed set: `x/test_svhn.txt` -> `svhn`."""
    return re.sub(r"^(train|val|test)_(?=.)", "", Path(_divide(spec)[0]).stem)


def _divide(spec: str) -> tuple[str, str]:
    """Separates FILE and ROOT; folders may hold an @ in their names."""
    match = re.fullmatch(r"(.+?\.txt)@(.+)", spec)
    return (match[1], match[2]) if match else (spec, "")


def _read(file: Path) -> list[tuple[str, int]]:
    try:
        lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as error:
        raise UserError(f"{file}: not readable as a list of images ({error})") from None
    if any("\0" in line for line in lines):
        raise UserError(f"{file}: not readable as a list of images (it is no text)")
    entries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        path, label = _entry(line, f"{file}, line {number}")
        entries.append((path, label))
    if not entries:
        raise UserError(f"{file}: this list names no images")
    return entries


def _entry(line: str, where: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*\S)\s+(-1|[0-9]{1,9})", line.strip())
    if match is None:
        raise UserError(
            f"{where}: {line.strip()[:80]!r} is not a path and a label (a whole number, -1 = none)"
        )
    # Windows' rules see both kinds of slash, and drives.
    path = PureWindowsPath(match[1])
    if path.anchor or ".." in path.parts:
        raise UserError(f"{where}: {match[1]} must lie below the folder of the images")
    return match[1], int(match[2])


def _default_root(file: Path, first: str) -> Path:
    if file.parent.parent.name != "benchmark_imglist":
        return file.parent
    candidates = [file.parents[2] / name for name in _IMAGE_FOLDERS]
    return next((root for root in candidates if os.path.isfile(root / first)), candidates[0])


def _classes(entries: Sequence[tuple[str, int]]) -> tuple[Tensor | None, list[str]]:
    numbers = sorted({label for _, label in entries})
    if numbers[0] < 0 or len(numbers) < 2:
        return None, []
    pairs = sorted({(label, PurePosixPath(path).parent.name) for path, label in entries})
    folders = [folder for _, folder in pairs]
    own = len(pairs) == len(set(folders)) == len(numbers)
    index = {number: position for position, number in enumerate(numbers)}
    labels = torch.tensor([index[label] for _, label in entries])
    return labels, folders if own else [str(number) for number in numbers]
