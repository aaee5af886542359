"""Evaluation protocols: the OOD test sets that published results are averaged over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from atd.config import DataConfig
from atd.data.listing import list_images
from atd.data.reading import notice
from atd.data.sources import source_name
from atd.data.torchvision_sets import TORCHVISION
from atd.errors import UserError

__all__ = ["Role", "is_same_set", "protocol_id_test", "protocol_tests"]

Role = Literal["far", "near"]

_PAPER = ("mnist", "tiny_imagenet", "places365", "lsun", "isun", "birds", "flowers", "coil100")
"""Far sets of the ATD paper (Azizmalayeri et al., NeurIPS 2022, table 1)."""

_OPENOOD_NEAR = {"cifar10": ("cifar100", "tin"), "cifar100": ("cifar10", "tin")}
_OPENOOD_FAR = ("mnist", "svhn", "texture", "places365")
"""OpenOOD v1.5 (Zhang et al., 2023), named as its image lists are."""

_FOLDER = {"tin": "tiny_imagenet"}
_TORCHVISION = {"texture": "dtd", "flowers": "flowers102"}


def protocol_tests(data: DataConfig) -> list[tuple[str, str, Role]]:
    """The OOD test sets of `data.protocol`, which replace `data.ood_test` and `data.near_test`.

    A set is a folder of images `data.root/<set>` (its subfolder `test` or `val`, if there is
    one), else torchvision's. OpenOOD's sets are read from its image lists if `data.openood` says
    where they are.

    Args:
        data: `protocol`, `openood`, `root` and `id` matter.

    Returns:
        Name, source and role of each set, far ones first; no set without a protocol.

    Raises:
        UserError: OpenOOD does not define the protocol for `data.id`, or sets are missing.
    """
    if not data.protocol:
        return []
    if data.ood_test or data.near_test:
        notice(f"data.protocol={data.protocol} replaces data.ood_test and data.near_test")
    if data.protocol == "paper":
        return _found(_PAPER, (), data)
    near = _openood_near(data)
    if data.openood:
        return _listed(_OPENOOD_FAR, near, data)
    notice(
        "data.protocol=openood without data.openood: whole sets instead of OpenOOD's image lists, "
        "so images of ID classes stay in and numbers do not compare with its leaderboard"
    )
    return _found(_OPENOOD_FAR, near, data)


def protocol_id_test(data: DataConfig) -> str:
    """The source of the ID test images that a protocol asks for, or nothing."""
    if data.protocol != "openood" or not data.openood:
        return ""
    return f"list:{_list_file(source_name(data.id), data)}"


def is_same_set(name: str, source: str) -> bool:
    """Says whether a source, perhaps another split, is the set that a protocol calls `name`."""
    return source_name(source) in (name, _FOLDER.get(name), _TORCHVISION.get(name))


def _openood_near(data: DataConfig) -> tuple[str, ...]:
    name = source_name(data.id)
    if name not in _OPENOOD_NEAR:
        supported = " and ".join(_OPENOOD_NEAR)
        raise UserError(f"data.protocol=openood: it is there for data.id {supported}, not {name}")
    return _OPENOOD_NEAR[name]


def _with_roles(
    far: tuple[str, ...], near: tuple[str, ...], sources: dict[str, str]
) -> list[tuple[str, str, Role]]:
    tests: list[tuple[str, str, Role]] = [(name, sources[name], "far") for name in far]
    return tests + [(name, sources[name], "near") for name in near]


def _listed(
    far: tuple[str, ...], near: tuple[str, ...], data: DataConfig
) -> list[tuple[str, str, Role]]:
    files = {name: _list_file(name, data) for name in (*far, *near, source_name(data.id))}
    missing = [file for file in files.values() if not os.path.isfile(file)]
    if missing:
        raise UserError(
            f"data.openood={data.openood}: {missing[0].parent} lacks "
            f"{', '.join(file.name for file in missing)}; name the folder that holds OpenOOD's "
            "benchmark_imglist and images_classic"
        )
    return _with_roles(far, near, {name: f"list:{file}" for name, file in files.items()})


def _list_file(name: str, data: DataConfig) -> Path:
    lists = Path(data.openood).expanduser() / "benchmark_imglist"
    return lists / source_name(data.id) / f"test_{name}.txt"


def _found(
    far: tuple[str, ...], near: tuple[str, ...], data: DataConfig
) -> list[tuple[str, str, Role]]:
    sources = {name: _find(name, data) for name in (*far, *near)}
    missing = [str(_folder(name, data)) for name, source in sources.items() if not source]
    if missing:
        raise UserError(
            f"data.protocol={data.protocol}: no images in {', '.join(missing)}; torchvision lacks "
            "these sets, so unpack them there (or set data.root)"
        )
    return _with_roles(far, near, sources)


def _find(name: str, data: DataConfig) -> str:
    for part in ("test", "val", ""):
        folder = _folder(name, data) / part
        if os.path.isdir(folder) and list_images(folder):
            return f"folder:{folder}"
    known = _TORCHVISION.get(name, name)
    return known if known in TORCHVISION else ""


def _folder(name: str, data: DataConfig) -> Path:
    return Path(data.root).expanduser() / _FOLDER.get(name, name)
