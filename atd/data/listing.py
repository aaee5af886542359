"""The image files below a folder, and what lies there and is left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from atd.data.decoding import endings
from atd.errors import printable

__all__ = ["LeftOut", "list_images", "walk_images"]

_HEIC = (".heic", ".heif", ".hif")


@dataclass
class LeftOut:
    """What was not used: for each reason how much, and one example.

    Attributes:
        counts: Number of files (or images) by reason, in the order in which they were met.
        examples: The first one of each.
        note: What else a person should know about how the source was read.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    note: str = ""
    _told: bool = False

    def add(self, reason: str, example: str, count: int = 1) -> None:
        """Counts what was left out for a reason."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        self.examples.setdefault(reason, printable(example))

    def merged(self, other: LeftOut) -> LeftOut:
        """What was left out here or there."""
        return LeftOut(
            {
                reason: self.counts.get(reason, 0) + other.counts.get(reason, 0)
                for reason in {**self.counts, **other.counts}
            },
            {**other.examples, **self.examples},
        )

    def lines(self, name: str) -> list[str]:
        """What a person should be told of a set, once however many parts it is divided into."""
        if self._told:
            return []
        self._told = True
        lines = [self.note] if self.note else []
        return [*lines, f"{name}: {self.total} left out: {self}"] if self else lines

    @property
    def total(self) -> int:
        """Number of files or images left out."""
        return sum(self.counts.values())

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        """In a few words: `3 .heic files (a/1.heic), 2 hidden files (.DS_Store)`."""
        return ", ".join(
            f"{count} {reason} ({self.examples[reason]})" for reason, count in self.counts.items()
        )


def list_images(folder: str | os.PathLike[str], left_out: LeftOut | None = None) -> list[str]:
    """Lists all image files below a folder, by extension, in a stable order.

    Args:
        folder: Where to look.
        left_out: Takes in what is not an image.

    Returns:
        Paths relative to `folder` with forward slashes, sorted.
    """
    return sorted(walk_images(folder, left_out))


def walk_images(folder: str | os.PathLike[str], left_out: LeftOut | None = None) -> Iterator[str]:
    """Finds the image files below a folder one folder at a time, see `list_images`.

    Hidden files and folders (also macOS's `._` companions) are left out; links are followed, but
    no folder is entered twice.

    Args:
        folder: Where to look.
        left_out: Takes in what is not an image.

    Yields:
        Paths relative to `folder` with forward slashes; of each folder its own files first,
        sorted, then its subfolders.
    """
    root, aside = os.fspath(folder), LeftOut() if left_out is None else left_out
    visited: set[str] = set()
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        found = _entries(os.path.join(root, prefix), prefix, visited, aside)
        for name, is_folder, is_special in found:
            reason = "" if is_folder else _reason(name, is_special)
            if reason:
                aside.add(reason, prefix + name)
            elif not is_folder:
                yield prefix + name
        for name in (name for name, is_folder, _ in reversed(found) if is_folder):
            if name[0] == "." or name == "__MACOSX":
                aside.add("hidden folders", prefix + name)
            else:
                waiting.append(f"{prefix}{name}/")


def _entries(
    where: str, prefix: str, visited: set[str], aside: LeftOut
) -> list[tuple[str, bool, bool]]:
    """Name, whether a folder, and whether a pipe or device, of all that lies in a folder."""
    real = os.path.realpath(where)
    if real in visited:  # a link back up would never end
        aside.add("folders met again through links", prefix)
        return []
    visited.add(real)
    try:
        with os.scandir(where) as entries:
            return sorted((entry.name, _is_folder(entry), _is_special(entry)) for entry in entries)
    except OSError as error:
        aside.add(f"folders not readable ({error.strerror})", prefix or where)
        return []


def _reason(name: str, is_special: bool) -> str:
    """Why a file is left out; nothing for an image."""
    if name[0] == ".":
        return "macOS companions (._*)" if name[:2] == "._" else "hidden files"
    ending = os.path.splitext(name)[1].lower()
    if ending in endings():
        return "pipes, sockets or devices" if is_special else ""
    if ending in _HEIC:
        return f"{ending} files, which pip install pillow-heif makes readable"
    return f"{printable(ending)} files" if len(ending) > 1 else "files without extension"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether it is neither a file nor a folder; a broken link counts as the file it should be."""
    try:
        return not (entry.is_file() or entry.is_dir() or not os.path.exists(entry.path))
    except OSError:
        return False
