"""The OOD test sets that the options name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from atd.config import DataConfig
from atd.data.images import ImageSet
from atd.data.protocols import Role, is_same_set, protocol_tests
from atd.data.sources import defect_sources, open_source, source_name, split_mixture
from atd.errors import UserError

__all__ = ["OodTest", "listed_tests", "open_test", "required_tests", "selects"]


@dataclass(frozen=True)
class OodTest:
    """An OOD test set: its unique name, where it comes from, and how far it is from ID."""

    name: str
    source: str
    role: Role


def open_test(test: OodTest, data: DataConfig) -> ImageSet | None:
    """The set, or None for jigsaws of ID test images, which are not known yet."""
    if test.source == f"jigsaw:{data.id}":
        return None
    return open_source(test.source, split="test", data=data).renamed(test.name)


def selects(test: OodTest, data: DataConfig) -> bool:
    """Whether the best epoch is chosen on the set; without `ood_val`, outliers choose it."""
    source = data.ood_val or data.outliers
    selecting = split_mixture(source) if source else []
    if data.protocol:
        return any(is_same_set(test.name, part) for part in selecting)
    return any(part in selecting for part in split_mixture(test.source))


def required_tests(data: DataConfig) -> list[OodTest]:
    """The OOD tests, of which there must be one.

    Raises:
        UserError: There is none, or as `listed_tests`.
    """
    listed = listed_tests(data)
    if not listed:
        raise UserError(
            "data.ood_test: name at least one OOD test set to evaluate on, or set data.protocol"
        )
    return listed


def listed_tests(data: DataConfig) -> list[OodTest]:
    """The OOD tests with unique names; far ones first."""
    if data.protocol:
        return [OodTest(*test) for test in protocol_tests(data)]
    listed: list[OodTest] = []
    entries: list[tuple[str, Role]] = [(entry, "far") for entry in data.ood_test]
    entries += [(entry, "near") for entry in data.near_test]
    explicit = {_split_name(entry)[0].lower() for entry, _ in entries}
    given = [_split_name(entry)[1] for entry, _ in entries]
    defects = defect_sources(data.id).items()
    entries += [(f"{name}={source}", "far") for name, source in defects if source not in given]
    taken: set[str] = set()
    for entry, role in entries:
        name, source = _split_name(entry)
        if source in (test.source for test in listed):
            raise UserError(f"data.ood_test, data.near_test: {source} is listed twice")
        if name and name.lower() in taken:
            raise UserError(f"data.ood_test, data.near_test: two sets are called {name}")
        name = name or _unused(source_name(source), taken | explicit)
        taken.add(name.lower())
        listed.append(OodTest(name, source, role))
    return listed


def _unused(name: str, taken: set[str]) -> str:
    candidates = [name, *(f"{name}-{number}" for number in range(2, len(taken) + 3))]
    return next(candidate for candidate in candidates if candidate.lower() not in taken)


def _split_name(entry: str) -> tuple[str, str]:
    """Separates `name=source`; the name is empty when there is none."""
    match = re.fullmatch(r"([^=:/\\]+)=(.+)", entry)
    if match is None:
        return "", entry.strip()
    name, source = match[1].strip(), match[2].strip()
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise UserError(f"data.ood_test: {name} cannot name a set; use letters, digits, -, _ and .")
    return name, source
